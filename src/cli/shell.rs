//! `upstill completions` and `upstill man`, for packages and for a shell's start file.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use crate::error::{IoContext, Result};
use crate::files::make_folder;
use crate::terminal::print_text;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill completions bash > ~/.local/share/bash-completion/completions/upstill")]
pub struct CompletionsArgs {
    /// Whose: `upstill completions bash > ~/.local/share/bash-completion/completions/upstill`
    shell: Shell,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill man ~/.local/share/man/man1")]
pub struct ManArgs {
    /// Where upstill.1, upstill-train.1 and so on go
    folder: PathBuf,
}

pub fn completions(args: &CompletionsArgs) {
    let mut words = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "upstill", &mut words);
    print_text(format_args!("{}", String::from_utf8_lossy(&words)));
}

/// Writes a page for each subcommand. Older ones are written over, as they are this command's alone.
pub fn man(args: &ManArgs) -> Result<()> {
    make_folder(&args.folder)?;
    clap_mangen::generate_to(Cli::command(), &args.folder).doing("write", &args.folder)
}
