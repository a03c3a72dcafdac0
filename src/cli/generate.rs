//! `upstill generate`.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::Serialize;

use super::{DeviceArg, print_json};
use crate::error::{Error, Result};
use crate::methods::{Choice, Generate, generate};
use crate::model::ModelFolder;
use crate::tokens::Tokenizer;
use crate::train::interrupted;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill generate runs/student 'Once upon a time'
  upstill generate runs/student 'Once upon a time' --temperature 0          the likeliest token each time
  upstill generate smollm2/ 'The capital of France is' --top-p 0.9 --seed 7 --tokens 20
  upstill generate runs/alone runs/taught 'Once upon a time'                one model under the other, from one seed")]
pub struct Args {
    /// Run directories, checkpoints, Hugging Face folders or GGUF files of causal models
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// What they go on with
    text: String,
    /// Tokens at most; it ends sooner where the model ends its sentence
    #[arg(long, default_value_t = 64)]
    tokens: usize,
    /// What logits are divided by before a token is drawn; 0 takes the likeliest
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Draw from so many of the likeliest tokens alone
    #[arg(long)]
    top_k: Option<usize>,
    /// Draw from the likeliest tokens that together have this probability
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Decides what is drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    device: DeviceArg,
    /// Print the text and its tokens on standard output, once it is whole; of several models a list
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Written {
    model: String,
    text: String,
    /// Of what was written, not of the text before it.
    ids: Vec<u32>,
}

pub fn run(args: Args) -> Result<()> {
    let device = args.device.choose("cpu")?.handle;
    // A model that can't write is told of before another has begun.
    let folders = args.models.iter().map(|model| ModelFolder::open(model)).collect::<Result<Vec<_>>>()?;
    let mut written = Vec::new();
    for (path, folder) in args.models.iter().zip(&folders) {
        if folders.len() > 1 && !args.json {
            print!("{}{}:\n", if written.is_empty() { "" } else { "\n" }, path.display());
        }
        written.push(write(&args, path, folder, &device)?);
    }
    match &written[..] {
        _ if !args.json => {}
        [one] => print_json(one),
        several => print_json(&several),
    }
    Ok(())
}

/// What one model writes; it is shown as it comes, unless all is printed at the end.
fn write(args: &Args, path: &Path, folder: &ModelFolder, device: &Device) -> Result<Written> {
    let Args { temperature, top_k, top_p, .. } = *args;
    let (tokenizer, model) = (folder.tokenizer()?, folder.load(device)?);
    let options = Generate { tokens: args.tokens, choice: Choice { temperature, top_k, top_p }, seed: args.seed };
    let mut shown = Shown { tokenizer: &tokenizer, ids: tokenizer.encode(&args.text)?, printed: 0 };
    if !args.json {
        shown.show(true);
    }
    let mut each = |id: u32| {
        if interrupted() {
            return Err(Error::interrupted("nothing was to be saved"));
        }
        shown.ids.push(id);
        if !args.json {
            shown.show(false);
        }
        Ok(())
    };
    let written = generate(&model, &tokenizer, &args.text, &options, device, &mut each);
    let ids = written.map_err(|error| if error.place().is_some() { error } else { error.at(path.display()) })?;
    if !args.json {
        shown.show(true);
        print!("\n");
    }
    Ok(Written { model: path.display().to_string(), text: tokenizer.decode(&shown.ids), ids })
}

/// A text that grows, as far as it was printed.
struct Shown<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    /// Bytes.
    printed: usize,
}

impl Shown<'_> {
    /// Prints what is new. A character of several tokens waits for its last one, unless this is the end.
    fn show(&mut self, is_end: bool) {
        let text = self.tokenizer.decode(&self.ids);
        let ready = if is_end { text.len() } else { text.trim_end_matches(char::REPLACEMENT_CHARACTER).len() };
        if let Some(new) = text.get(self.printed..ready).filter(|new| !new.is_empty()) {
            print!("{new}");
            self.printed = ready;
        }
    }
}
