//! `upstill finetune`.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::data::longest_line;
use super::{DeviceArg, print_json};
use crate::checkpoint::{Checkpoints, step_of};
use crate::device::Device;
use crate::error::{Error, Result, note};
use crate::log::Console;
use crate::model::ModelFolder;
use crate::study::scores::{GlueScores, TaskScores};
use crate::tasks::{
    GlueFiles, Metric, TableSpec, Task, glue_folder, glue_name, glue_names, glue_task, pocket_names, pocket_task, table_task,
};
use crate::text::{LONGEST_LINE, ReadOptions};
use crate::train::{
    FinetuneOptions, Finetuning, Pretrained, check_scores_folder, checkpoint_scores_folder, model_folder, model_of_run,
};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill finetune runs/student --task cola --data glue/ --seeds 5 --out runs/student/cola
  upstill finetune runs/student --task glue --data glue/ --out scores/
  upstill finetune runs/student --train a.csv --dev b.csv --text review --label stars
  upstill finetune runs/student --every-checkpoint --task pocket-entailment

The defaults are the paper's. With --out, the same command again goes on with the seeds that are not there yet.")]
pub struct Args {
    /// A run directory, a checkpoint or a Hugging Face folder
    model: PathBuf,
    /// One of GLUE's (cola, sst-2, mrpc, sts-b, qqp, mnli, qnli, rte, wnli), `glue` for all that --data holds, a pocket
    /// task (pocket-acceptability, -sentiment, -paraphrase, -entailment, -similarity), or any name for a table's
    #[arg(long)]
    task: Option<String>,
    /// The folder with GLUE's official files: it holds CoLA/, SST-2/ and so on
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Learn from this file: a .tsv, .csv, .jsonl or .parquet
    #[arg(long, value_name = "FILE")]
    train: Option<PathBuf>,
    /// Score on this file
    #[arg(long, value_name = "FILE")]
    dev: Option<PathBuf>,
    /// Predict this file's answers into --out, once a seed: seeds that are kept there do so with the kept model, or
    /// train again
    #[arg(long, value_name = "FILE", requires = "out")]
    test: Option<PathBuf>,
    /// The column of the text; this makes a task of any table
    #[arg(long, value_name = "COLUMN", requires_all = ["train", "dev", "label"])]
    text: Option<String>,
    /// The column of a pair's second text
    #[arg(long, value_name = "COLUMN", requires = "text")]
    text2: Option<String>,
    /// The column of the answer; the classes are the labels of --train, numbers in their order, words by the alphabet
    #[arg(long, value_name = "COLUMN", requires = "text")]
    label: Option<String>,
    /// Answers are numbers to come close to, not classes
    #[arg(long, requires = "text")]
    regression: bool,
    /// How a table's answers are scored; accuracy, or both correlations with --regression, unless given. f1 is of the
    /// second of two classes; of more, say which mean: f1-macro, f1-micro or f1-weighted
    #[arg(long = "metric", value_enum, requires = "text")]
    metrics: Vec<Metric>,
    /// Pass over a table's rows with an empty text or label
    #[arg(long, requires = "text")]
    skip_empty: bool,
    /// Read on where bytes are not UTF-8, with U+FFFD in their place
    #[arg(long)]
    lossy: bool,
    /// The longest line of JSON or row of a table that is read, in MiB; of Parquet, a quarter of the longest page
    #[arg(long, value_name = "MB", default_value_t = LONGEST_LINE as u64 >> 20, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    longest_line: u64,
    /// Fine-tune this often, each with a seed of its own
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Highest learning rate; it falls to 0 linearly
    #[arg(long, default_value_t = 2e-5)]
    lr: f64,
    /// Examples a step
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Passes over the training split; 3, and 5 for MRPC, unless given
    #[arg(long)]
    epochs: Option<f64>,
    /// Longest row in tokens
    #[arg(long, default_value_t = 128)]
    length: usize,
    /// Share of the steps over which the learning rate rises
    #[arg(long, default_value_t = 0.0)]
    warmup: f64,
    /// Score and keep the pass that is best on the dev split, not the last
    #[arg(long)]
    keep_best: bool,
    /// Stop after this many passes without a better dev score
    #[arg(long, value_name = "PASSES")]
    patience: Option<u64>,
    /// Keep scores, predictions of test files, and the best seed's model in this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Fine-tune each checkpoint of the run MODEL, for `upstill report` to draw; into the run's finetune/ unless --out
    /// is given
    #[arg(long)]
    every_checkpoint: bool,
    #[command(flatten)]
    device: DeviceArg,
    /// Print the scores on standard output
    #[arg(long)]
    json: bool,
}

/// What was asked for, read and checked.
struct Wanted {
    tasks: Vec<Task>,
    /// Of `--task glue`: a line on each task that is not there.
    left_out: Option<Vec<String>>,
}

/// What a model scored: one task, or all of GLUE.
#[derive(Serialize)]
#[serde(untagged)]
enum Scores {
    Task(TaskScores),
    Glue(GlueScores),
}

/// With `--every-checkpoint`: the last checkpoint's scores, and those of all.
#[derive(Serialize)]
struct ByStep {
    #[serde(flatten)]
    last: Value,
    checkpoints: Vec<AtStep>,
}

#[derive(Serialize)]
struct AtStep {
    step: u64,
    #[serde(flatten)]
    scores: Scores,
}

pub fn run(args: Args) -> Result<()> {
    if args.seeds == 0 {
        return Err(Error::new("--seeds is 0: fine-tune once or more"));
    }
    options(&args, "").check()?;
    let Models { whole: models, mut damaged } = models(&args)?;
    let wanted = wanted(&args)?;
    for task in &wanted.tasks {
        options(&args, &task.name).steps(task.train.len())?;
        models.iter().filter_map(|(.., out)| out.as_ref()).try_for_each(|out| check_scores_folder(out, &task.name))?;
    }
    let notes = wanted.tasks.iter().flat_map(|task| &task.notes).chain(wanted.left_out.iter().flatten());
    notes.for_each(|note| eprintln!("note: {note}"));
    let device = args.device.choose("auto")?;
    let console = Console::study(args.seeds * wanted.tasks.len() as u64 * models.len() as u64);
    let mut scored = Vec::new();
    let most = models.iter().map(|(_, model, _)| model.shape.max_positions()).min().unwrap_or(args.length);
    if most < args.length {
        eprintln!("note: the model has {most} positions: longer rows are cut there, not at --length {}", args.length);
    }
    for (step, model, out) in &models {
        if args.every_checkpoint {
            console.note(&format!("checkpoint of step {step}"));
        }
        let pretrained = match Pretrained::read(model) {
            Err(error) if args.every_checkpoint => {
                leave_out(*step, &error, &mut damaged);
                continue;
            }
            read => read?,
        };
        let scores = score(&args, &wanted, &pretrained, dropout(model), out.as_deref(), &device, &console)?;
        scored.push(AtStep { step: *step, scores });
    }
    console.finish();
    let steps = |steps: &[u64]| steps.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    if scored.is_empty() {
        return Err(Error::new(format!("none of the checkpoints can be read: those of steps {}", steps(&damaged)))
            .at(args.model.display())
            .help("the notes above say why; train again, or take a copy of the run"));
    }
    print(&args, scored);
    match damaged[..] {
        [] => Ok(()),
        _ => Err(Error::check(format!("checkpoints that can't be read were left out: those of steps {}", steps(&damaged)))
            .at(args.model.display())
            .help("the notes above say why; the scores of the others stand")),
    }
}

/// Says that a checkpoint is passed over, and why.
fn leave_out(step: u64, error: &Error, damaged: &mut Vec<u64>) {
    note(format!("the checkpoint of step {step} is left out: {}", error.to_string().replace('\n', "\n  ")));
    damaged.push(step);
}

/// The models to fine-tune.
struct Models {
    /// The steps of their checkpoints, and where their scores are kept.
    whole: Vec<(u64, ModelFolder, Option<PathBuf>)>,
    /// The steps of checkpoints that can't be read.
    damaged: Vec<u64>,
}

/// The dropout of a model's config.json; fine-tuning has one for all of a model.
fn dropout(model: &ModelFolder) -> f64 {
    model.dropout().unwrap_or_else(|| {
        let usual = FinetuneOptions::default().dropout;
        note(format!("{}: config.json has several dropouts; fine-tuning has {usual} everywhere", model.path.display()));
        usual
    })
}

/// The model, or with `--every-checkpoint` those of a run's checkpoints that can be read.
fn models(args: &Args) -> Result<Models> {
    let mut models = Models { whole: Vec::new(), damaged: Vec::new() };
    if !args.every_checkpoint {
        models.whole.push((0, ModelFolder::open(&args.model)?, args.out.clone()));
        return Ok(models);
    }
    let (run, name) = model_of_run(&args.model).map_or((args.model.clone(), None), |(run, name)| (run, Some(name)));
    let out = args.out.clone().unwrap_or_else(|| checkpoint_scores_folder(&run, name.as_deref()));
    let checkpoints = Checkpoints::of_run(&run).list()?;
    if checkpoints.is_empty() {
        return Err(Error::new("there are no checkpoints")
            .at(args.model.display())
            .help("--every-checkpoint takes a run directory; `train.keep_checkpoints` says how many a run keeps"));
    }
    for path in checkpoints {
        let step = step_of(&path).unwrap_or(0);
        let model = name.as_deref().map_or(path.clone(), |name| path.join(model_folder(name)));
        match ModelFolder::open(&model).and_then(|model| model.check().map(|()| model)) {
            Ok(model) => models.whole.push((step, model, Some(out.join(path.file_name().unwrap_or_default())))),
            Err(error) => leave_out(step, &error, &mut models.damaged),
        }
    }
    Ok(models)
}

fn wanted(args: &Args) -> Result<Wanted> {
    let one = |task| Ok(Wanted { tasks: vec![task], left_out: None });
    if let Some(text) = &args.text {
        return one(table_task(&table(args, text))?);
    }
    let name = args.task.as_deref().ok_or_else(|| {
        Error::new("no task was named").help("name one with --task, or a table's columns with --train, --dev, --text and --label")
    })?;
    let files = GlueFiles { train: args.train.clone(), dev: args.dev.clone(), test: args.test.clone(), read: read(args) };
    let replaces_files = [&files.train, &files.dev, &files.test].iter().any(|file| file.is_some());
    if name == "glue" {
        if replaces_files {
            return Err(Error::new("--train, --dev and --test replace the files of one task").help("name the task with --task"));
        }
        let data = data(args, name)?;
        let (whole, left_out) = glue_folder(data)?;
        let tasks = whole.iter().map(|name| glue_task(name, data, &files)).collect::<Result<_>>()?;
        return Ok(Wanted { tasks, left_out: Some(left_out) });
    }
    if let Some(name) = glue_name(name) {
        let nowhere = Path::new("");
        let given = files.train.is_some() && files.dev.is_some();
        return one(glue_task(name, if given { args.data.as_deref().unwrap_or(nowhere) } else { data(args, name)? }, &files)?);
    }
    let task = pocket_task(name).ok_or_else(|| {
        let known = format!("one of: {}, glue, {}", glue_names().join(", "), pocket_names().join(", "));
        Error::new(format!("unknown task {name:?}")).help(format!("{known}; any table with --train, --dev, --text and --label"))
    })?;
    if replaces_files {
        return Err(Error::new("a pocket task has no files").help("leave out --train, --dev and --test"));
    }
    one(task)
}

fn data<'a>(args: &'a Args, task: &str) -> Result<&'a Path> {
    args.data.as_deref().ok_or_else(|| {
        Error::new(format!("--task {task} needs --data"))
            .help("give the folder with GLUE's official files, which holds CoLA/, SST-2/ and so on")
    })
}

fn table(args: &Args, text: &str) -> TableSpec {
    let path = |path: &Option<PathBuf>| path.clone().unwrap_or_default();
    let stem = || path(&args.train).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    TableSpec {
        name: args.task.clone().unwrap_or_else(stem),
        train: path(&args.train),
        dev: path(&args.dev),
        test: args.test.clone(),
        text: text.to_owned(),
        text2: args.text2.clone(),
        label: args.label.clone().unwrap_or_default(),
        regression: args.regression,
        metrics: args.metrics.clone(),
        skip_empty: args.skip_empty,
        read: read(args),
    }
}

fn read(args: &Args) -> ReadOptions {
    ReadOptions { lossy: args.lossy, longest_line: longest_line(args.longest_line), ..ReadOptions::default() }
}

fn options(args: &Args, task: &str) -> FinetuneOptions {
    let paper = FinetuneOptions::for_task(task);
    FinetuneOptions {
        lr: args.lr,
        batch: args.batch,
        length: args.length,
        epochs: args.epochs.unwrap_or(paper.epochs),
        warmup: args.warmup,
        keep_best: args.keep_best,
        patience: args.patience,
        ..paper
    }
}

fn score(
    args: &Args,
    wanted: &Wanted,
    pretrained: &Pretrained,
    dropout: f64,
    out: Option<&Path>,
    device: &Device,
    console: &Console,
) -> Result<Scores> {
    let mut scored = Vec::new();
    for task in &wanted.tasks {
        let options = FinetuneOptions { dropout, ..options(args, &task.name) };
        let runs = Finetuning::new(pretrained, task, &options, device, console)?.run_seeds(args.seeds, out)?;
        scored.extend(TaskScores::of(task, &runs));
    }
    Ok(match &wanted.left_out {
        Some(left_out) => Scores::Glue(GlueScores::of(scored, left_out.clone())),
        None => Scores::Task(scored.swap_remove(0)),
    })
}

fn print(args: &Args, scored: Vec<AtStep>) {
    if !args.json {
        for AtStep { step, scores } in &scored {
            if args.every_checkpoint {
                println!("step {step}");
            }
            match scores {
                Scores::Task(scores) => println!("{}", scores.terminal()),
                Scores::Glue(scores) => println!("{}", scores.terminal()),
            }
        }
    } else if args.every_checkpoint {
        let last = scored.last().map_or(Value::Null, |last| serde_json::to_value(&last.scores).expect("scores can be written"));
        print_json(&ByStep { last, checkpoints: scored });
    } else {
        scored.iter().for_each(|one| print_json(&one.scores));
    }
}
