//! `upstill finetune`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::{DeviceArg, print_json};
use crate::error::{Error, Result};
use crate::model::ModelFolder;
use crate::study::results::MeanSd;
use crate::tasks::{pocket_names, pocket_task};
use crate::train::{FinetuneOptions, Pretrained, finetune};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill finetune runs/student --task pocket-entailment
  upstill finetune runs/student --task pocket-acceptability --seeds 5 --lr 1e-4 --json")]
pub struct Args {
    /// A run directory, a checkpoint or a Hugging Face folder
    model: PathBuf,
    /// The task: pocket-acceptability, pocket-sentiment, pocket-paraphrase, pocket-entailment or pocket-similarity
    #[arg(long)]
    task: String,
    /// Fine-tune this often, each with a seed of its own
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Highest learning rate
    #[arg(long, default_value_t = 2e-5)]
    lr: f64,
    /// Examples a step
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Passes over the training split
    #[arg(long, default_value_t = 3.0)]
    epochs: f64,
    /// Longest row in tokens
    #[arg(long, default_value_t = 128)]
    length: usize,
    #[command(flatten)]
    device: DeviceArg,
    /// Print the scores on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Scored {
    task: String,
    metrics: BTreeMap<String, MeanSd>,
    seeds: u64,
}

pub fn run(args: Args) -> Result<()> {
    let task = pocket_task(&args.task).ok_or_else(|| {
        Error::new(format!("unknown task {:?}", args.task)).help(format!("one of: {}", pocket_names().join(", ")))
    })?;
    if args.batch == 0 || args.seeds == 0 || args.length < 8 || args.lr <= 0.0 || args.epochs <= 0.0 {
        return Err(Error::new("--batch, --seeds, --lr and --epochs must be above 0, and --length at least 8"));
    }
    let folder = ModelFolder::open(&args.model)?;
    let pretrained = Pretrained { shape: folder.shape.clone(), weights: folder.tensors()?, tokenizer: folder.tokenizer()? };
    let device = args.device.choose("auto")?;
    let options = FinetuneOptions {
        lr: args.lr,
        batch: args.batch,
        length: args.length,
        epochs: args.epochs,
        ..FinetuneOptions::default()
    };
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for seed in 1..=args.seeds {
        let metrics = finetune(&pretrained, &task, &options, seed, &device)?;
        let line: Vec<String> = metrics.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
        eprintln!("seed {seed} of {}: {}", args.seeds, line.join(", "));
        metrics.into_iter().for_each(|(name, value)| values.entry(name).or_default().push(value));
    }
    let metrics: BTreeMap<String, MeanSd> =
        values.iter().filter_map(|(name, values)| Some((name.clone(), MeanSd::of(values)?))).collect();
    if args.json {
        print_json(&Scored { task: task.name, metrics, seeds: args.seeds });
        return Ok(());
    }
    for (name, MeanSd { mean, sd }) in metrics {
        println!("{name:<12} {mean:.4}{}", sd.map_or(String::new(), |sd| format!(" ± {sd:.4}")));
    }
    Ok(())
}
