//! `upstill fill`.

use std::path::PathBuf;

use serde::Serialize;

use super::{DeviceArg, print_json};
use crate::error::Result;
use crate::methods::{Candidate, fill_mask};
use crate::model::ModelFolder;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill fill runs/student \"the dogs near the barn [MASK] loud .\"
  upstill fill runs/student \"Paris is the [MASK] of France.\" --compare runs/teacher --compare runs/alone")]
pub struct Args {
    /// A run directory, a checkpoint or a Hugging Face folder
    model: PathBuf,
    /// A sentence with one or more [MASK]
    sentence: String,
    /// Another model to show beside it; may be repeated
    #[arg(long)]
    compare: Vec<PathBuf>,
    /// Candidates of each model
    #[arg(long, default_value_t = 5)]
    top: usize,
    #[command(flatten)]
    device: DeviceArg,
    /// Print the candidates on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Filled {
    model: String,
    /// Candidates for each `[MASK]`, the most likely first.
    masks: Vec<Vec<Candidate>>,
}

pub fn run(args: Args) -> Result<()> {
    let paths: Vec<&PathBuf> = std::iter::once(&args.model).chain(&args.compare).collect();
    let folders = paths.iter().map(|path| ModelFolder::open(path)).collect::<Result<Vec<_>>>()?;
    let device = args.device.choose("cpu")?.handle;
    let mut filled = Vec::new();
    for (path, folder) in paths.into_iter().zip(folders) {
        let masks = {
            let (tokenizer, model) = (folder.tokenizer()?, folder.load(&device)?);
            fill_mask(&model, &tokenizer, &args.sentence, args.top, &device).map_err(|error| error.at(path.display()))?
        };
        filled.push(Filled { model: path.display().to_string(), masks });
    }
    match args.json {
        true => print_json(&filled),
        false => print!("{}", table(&filled)),
    }
    Ok(())
}

/// A block a [MASK], a column a model.
fn table(filled: &[Filled]) -> String {
    const WIDTH: usize = 28;
    let column = |text: &str| {
        let skipped = text.chars().count().saturating_sub(WIDTH - 2);
        format!("{:<WIDTH$}", text.chars().skip(skipped).collect::<String>())
    };
    let masks = filled.first().map_or(0, |first| first.masks.len());
    let mut out = String::new();
    for mask in 0..masks {
        let heading: String = filled.iter().map(|model| column(&model.model)).collect();
        out += &format!("[MASK] {}\n  {}\n", mask + 1, heading.trim_end());
        for rank in 0..filled[0].masks[mask].len() {
            let cells = filled.iter().map(|model| match model.masks[mask].get(rank) {
                Some(found) => column(&format!("{:5.1} %  {}", 100.0 * found.probability, found.token)),
                None => column(""),
            });
            out += &format!("  {}\n", cells.collect::<String>().trim_end());
        }
    }
    out
}
