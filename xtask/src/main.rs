//! `cargo xtask web`: builds the page into a folder that any web server can give out, and serves it.
//! `cargo xtask dist`: wheels, archives, the page, completions and man pages. `cargo xtask torture`: what survives
//! kills, broken disks, flipped bits, races and damaged input.

mod dist;
mod serve;
mod torture;
mod web;

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const HELP: &str = "\
  cargo xtask web       builds the browser page, and serves it
  cargo xtask dist      builds what is given out: wheels, archives with checksums, the page, completions, man pages
  cargo xtask torture   kills, broken disks, flipped bits, races and damaged input: what survives them

Each says more with --help.";

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(2);
    }
}

fn run() -> Result<()> {
    let mut args = env::args().skip(1);
    match args.next().as_deref() {
        Some("web") => web::web(args),
        Some("dist") => dist::dist(args),
        Some("torture") => torture::torture(args),
        _ => Err(HELP.into()),
    }
}

/// Cargo says at run time where this crate lies: a target folder may be shared by checkouts.
fn root() -> PathBuf {
    let here = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&here).parent().expect("this crate lies in the workspace").to_owned()
}

fn target_folder() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Runs a command to its end; what it says is seen.
fn done(command: &mut Command) -> Result<()> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} ended with {status}; what it said is above", command.get_program().display()).into()),
        Err(error) => Err(format!("could not run {}: {error}", command.get_program().display()).into()),
    }
}
