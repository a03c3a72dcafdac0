//! `upstill eval`.

use std::path::PathBuf;

use super::{DeviceArg, print_json};
use crate::batch::{BatchOptions, Batches, Masking, Split};
use crate::config::{Plan, Rows};
use crate::error::{Error, Result};
use crate::methods::{ModelTeacher, Teacher, evaluate};
use crate::model::ModelFolder;
use crate::train::{open_shards, run_of};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill eval runs/student
  upstill eval runs/student --teacher runs/teacher --json
  upstill eval bert-base-uncased/ --data data/wiki --length 128")]
pub struct Args {
    /// A run directory, a checkpoint or a Hugging Face folder
    model: PathBuf,
    /// Shards whose held-out split to score on; of the run's own plan unless given
    #[arg(long)]
    data: Option<String>,
    /// Also say how often this model predicts the same word
    #[arg(long)]
    teacher: Option<PathBuf>,
    /// Tokens in a row; the plan's, else 128
    #[arg(long)]
    length: Option<usize>,
    /// Held-out rows to score on; all unless given
    #[arg(long)]
    rows: Option<usize>,
    #[command(flatten)]
    device: DeviceArg,
    /// Print the scores on standard output
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let folder = ModelFolder::open(&args.model)?;
    folder.check()?;
    folder.tokenizer()?;
    let plan = run_of(&args.model).map(|run| Plan::load(&run.join("plan.toml"))).transpose()?;
    let name = args.data.clone().or_else(|| plan.as_ref().map(|plan| plan.data.shards.clone())).ok_or_else(|| {
        Error::new(format!("{} has no plan that names its data", args.model.display())).help("name the shards: --data DIR")
    })?;
    let shards = open_shards(&name)?;
    let teacher = args.teacher.as_deref().map(ModelFolder::open).transpose()?;
    for folder in std::iter::once(&folder).chain(&teacher) {
        if folder.tokenizer()?.hash() != shards.tokenizer().hash() {
            return Err(Error::new(format!("the model's vocabulary is not the one that {name} was built with"))
                .at(folder.path.display())
                .help(format!("build shards for it: upstill data build TEXT --out DIR --tokenizer {}", folder.path.display())));
        }
    }
    let device = args.device.choose("auto")?.handle;
    let masking = plan.as_ref().map_or(Masking { rate: 0.15, whole_word: false, rarity: 0.0 }, |plan| Masking {
        rate: plan.data.mask_rate,
        whole_word: plan.data.whole_word,
        rarity: plan.data.rarity,
    });
    let options = BatchOptions {
        layout: plan.as_ref().map_or(Rows::Sentence, |plan| plan.data.rows),
        length: args.length.or(plan.as_ref().map(|plan| plan.data.length)).unwrap_or(128).min(folder.shape.max_positions),
        batch: 32,
        seed: 0,
        masking,
    };
    let held_out = Batches::new(&shards, Split::HeldOut, options)?;
    let teacher = teacher.map(|teacher| teacher.load(&device)).transpose()?.map(ModelTeacher::new);
    let rows = args.rows.unwrap_or(usize::MAX);
    let scores =
        evaluate(&folder.load(&device)?, &held_out, rows, teacher.as_ref().map(|teacher| teacher as &dyn Teacher), &device)?;
    if args.json {
        print_json(&scores);
        return Ok(());
    }
    println!("held-out loss     {:.4} nats a masked token", scores.held_out_loss);
    println!("perplexity        {:.2}", scores.perplexity);
    println!("masked accuracy   {:.2} %", 100.0 * scores.masked_accuracy);
    if let Some(agreement) = scores.teacher_agreement {
        println!("teacher agrees    {:.2} %", 100.0 * agreement);
    }
    println!("masked tokens     {}", scores.masked_tokens);
    Ok(())
}
