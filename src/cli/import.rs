//! `upstill import`.

use std::path::PathBuf;

use serde::Serialize;

use super::{new_folder, print_json};
use crate::error::Result;
use crate::model::{Inventory, ModelFolder, Shape};
use crate::train::model_card;

#[derive(clap::Args)]
#[command(after_help = "\
Every command that takes a model reads such a folder as it is; this says what is in it, and with OUT makes it a folder of
today's BertForMaskedLM (or ModernBertForMaskedLM, ModernBertDecoderForCausalLM, LlamaForCausalLM, Qwen3ForCausalLM,
SmolLM3ForCausalLM, GPT2LMHeadModel) in one model.safetensors (f32). Numbers of a GGUF file that are kept in 4 or 8 bits
are unpacked.

Examples:
  upstill import distilbert-base-uncased/
  upstill import old-bert/ models/bert
  upstill import SmolLM2-135M-Instruct.Q4_1.gguf models/smollm2")]
pub struct Args {
    /// A Hugging Face folder of a BERT, a ModernBERT, a Llama or a GPT-2: config.json, weights (safetensors or
    /// pytorch_model.bin), tokenizer; or a Llama's GGUF file
    folder: PathBuf,
    /// Where to write the model; nothing is written unless given
    out: Option<PathBuf>,
    /// Print what was found on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Found<'a> {
    architecture: &'a str,
    shape: &'a crate::model::Shape,
    parameters: u64,
    files: Vec<String>,
    tokenizer_tokens: usize,
    masked_language_model_head: bool,
    used: usize,
    missing: &'a [String],
    left_over: &'a [String],
}

pub fn run(args: Args) -> Result<()> {
    let folder = ModelFolder::open(&args.folder)?;
    let target = args.out.as_deref().map(new_folder).transpose()?;
    let (files, tokenizer) = (folder.weight_files()?, folder.tokenizer()?);
    let inventory = folder.inventory(&folder.tensors()?);
    if let (Some(target), Some(out)) = (target, &args.out) {
        let (model, card) = (folder.load(&burn::tensor::Device::flex())?, model_card(&folder)?);
        target.write(|inside| ModelFolder::export_into(inside, &model, &tokenizer, &card))?;
        eprintln!("wrote {}", out.display());
    }
    if args.json {
        print_json(&Found {
            architecture: folder.architecture,
            shape: &folder.shape,
            parameters: folder.shape.parameters().total,
            files,
            tokenizer_tokens: tokenizer.vocab_size(),
            masked_language_model_head: inventory.has_head() && !inventory.has_own_decoder(),
            used: inventory.used.len(),
            missing: &inventory.missing,
            left_over: &inventory.left_over,
        });
        return Ok(());
    }
    print!("{}", describe(&folder, &files, tokenizer.vocab_size(), &inventory));
    Ok(())
}

/// BERT's as they have always been told; of other families what their [`words`](crate::config::Sizes::words) are.
fn sizes(shape: &Shape) -> String {
    match shape {
        Shape::Bert(shape) => format!(
            "{} layers x {} wide, {} heads, feed-forward {}, vocabulary {}, {} positions, {} token types",
            shape.layers, shape.hidden, shape.heads, shape.intermediate, shape.vocab_size, shape.max_positions, shape.token_types
        ),
        other => {
            let (vocab, most) = (other.vocab_size(), other.max_positions());
            format!("{}{}, vocabulary {vocab}, rows of at most {most}", other.words(), other.angles())
        }
    }
}

fn describe(folder: &ModelFolder, files: &[String], tokens: usize, inventory: &Inventory) -> String {
    let shape = &folder.shape;
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join("\n               ") };
    let head = match (inventory.has_head(), inventory.has_own_decoder()) {
        (true, false) => "there: it can teach, predict and be scored",
        (true, true) => {
            "not read: its decoder is not tied to the word table; it can be fine-tuned, but not teach, predict or be scored"
        }
        (false, _) => "missing: it can be fine-tuned, but not teach, predict or be scored",
    };
    format!(
        "model          {}: {}\n\
         weights        {}: {} tensors used\n\
         tokenizer      {tokens} tokens\n\
         word head      {head}\n\
         missing        {}\n\
         left over      {}\n",
        folder.architecture,
        sizes(shape),
        files.join(", "),
        inventory.used.len(),
        list(&inventory.missing),
        list(&inventory.left_over),
    )
}
