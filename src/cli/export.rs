//! `upstill export`.

use std::path::PathBuf;

use super::new_folder;
use crate::error::Result;
use crate::model::ModelFolder;
use crate::train::model_card;

#[derive(clap::Args)]
#[command(after_help = "\
The folder holds config.json, model.safetensors, the tokenizer and README.md, a model card: what the model was trained on, by
which plan, its scores. AutoModelForMaskedLM.from_pretrained(DIR) and AutoTokenizer.from_pretrained(DIR) read it.

Examples:
  upstill export runs/student models/student
  upstill export runs/student/checkpoints/step-0001000 models/student-1000")]
pub struct Args {
    /// A run directory, a checkpoint or a Hugging Face folder
    model: PathBuf,
    /// The folder to write; it must not be there yet
    out: PathBuf,
}

pub fn run(args: Args) -> Result<()> {
    let folder = ModelFolder::open(&args.model)?;
    let target = new_folder(&args.out)?;
    let (tokenizer, model, card) = (folder.tokenizer()?, folder.load(&burn::tensor::Device::flex())?, model_card(&folder)?);
    target.write(|inside| ModelFolder::export_into(inside, &model, &tokenizer, &card))?;
    eprintln!("wrote {}", args.out.display());
    Ok(())
}
