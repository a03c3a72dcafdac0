//! `upstill generate`.

use std::path::PathBuf;

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
  upstill generate smollm2/ 'The capital of France is' --top-p 0.9 --seed 7 --tokens 20")]
pub struct Args {
    /// A run directory, a checkpoint or a Hugging Face folder of a causal model
    model: PathBuf,
    /// What it goes on with
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
    /// Print the text and its tokens on standard output, once it is whole
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
    let Args { temperature, top_k, top_p, .. } = args;
    let folder = ModelFolder::open(&args.model)?;
    let tokenizer = folder.tokenizer()?;
    let device = args.device.choose("cpu")?.handle;
    let model = folder.load(&device)?;
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
    let written = generate(&model, &tokenizer, &args.text, &options, &device, &mut each);
    let ids = written.map_err(|error| if error.place().is_some() { error } else { error.at(args.model.display()) })?;
    match args.json {
        true => {
            let text = tokenizer.decode(&shown.ids);
            print_json(&Written { model: args.model.display().to_string(), text, ids });
        }
        false => {
            shown.show(true);
            print!("\n");
        }
    }
    Ok(())
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
