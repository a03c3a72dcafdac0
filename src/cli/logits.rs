//! `upstill logits`.

use std::io::{BufRead, BufWriter, IsTerminal, stdin, stdout};
use std::path::PathBuf;

use super::DeviceArg;
use crate::error::{Error, Result};
use crate::methods::FramedSentences;
use crate::model::ModelFolder;
use crate::terminal::write_out;

#[derive(clap::Args)]
#[command(after_help = "\
Reads one sentence a line from standard input; the tensors are logits [n, s, v] (0 at padding), input_ids and
attention_mask [n, s]: n sentences, padded to the longest, s positions, vocabulary v.

Examples:
  upstill logits runs/student < sentences.txt > logits.safetensors")]
pub struct Args {
    /// A run directory, a checkpoint or a Hugging Face folder
    model: PathBuf,
    /// Sentences at once
    #[arg(long, default_value_t = 8)]
    batch: usize,
    #[command(flatten)]
    device: DeviceArg,
}

pub fn run(args: Args) -> Result<()> {
    let folder = ModelFolder::open(&args.model)?;
    folder.check()?;
    let tokenizer = folder.tokenizer()?;
    if stdout().is_terminal() {
        return Err(Error::new("logits are a binary file, and standard output is a terminal").help("add: > logits.safetensors"));
    }
    let sentences = stdin()
        .lock()
        .lines()
        .collect::<std::io::Result<Vec<String>>>()
        .map_err(|error| Error::new(format!("standard input can't be read as lines of UTF-8 text: {error}")))?;
    if sentences.is_empty() {
        return Err(Error::new("standard input holds no sentences").help("give one a line: upstill logits MODEL < sentences.txt"));
    }
    let device = args.device.choose("cpu")?.handle;
    let model = folder.load(&device)?;
    let sentences = FramedSentences::new(&tokenizer, &sentences, &folder.shape)?;
    if sentences.cut > 0 {
        eprintln!(
            "note: {} sentences were cut to the {} tokens that the model reads",
            sentences.cut,
            folder.shape.max_positions()
        );
    }
    write_out(sentences.write_logits(&model, args.batch, &device, &mut BufWriter::new(stdout().lock())));
    Ok(())
}
