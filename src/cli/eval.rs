//! `upstill eval`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{DeviceArg, print_json};
use crate::batch::{Batches, Split};
use crate::config::{ObjectiveKind, Plan};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::log::Console;
use crate::methods::{Evaluation, ModelTeacher, Pll, Teacher, Tick, evaluate, score_choices, score_pairs};
use crate::model::{LanguageModel, ModelFolder};
use crate::study::statistics::{Interval, bootstrap_95};
use crate::tasks::{ChoiceScores, MinimalPair, MultipleChoice, PairScores, ParadigmScore};
use crate::tasks::{pocket_pairs, read_choices, read_pairs};
use crate::tokens::{Shards, Tokenizer};
use crate::train::{HeldOutSet, held_out_options, interrupted, must_share_vocabulary, open_shards, run_of};
use crate::words::plural;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill eval runs/student
  upstill eval runs/student --teacher runs/teacher --json
  upstill eval bert-base-uncased/ --data data/wiki --length 128
  upstill eval runs/student --held-out imdb=data/imdb --held-out news=data/news
  upstill eval runs/student --pairs blimp.jsonl.zst      or the folder with BLiMP's files, or `pocket`
  upstill eval smollm2/ --choices hellaswag_val.jsonl --choices arc_easy.jsonl.zst

A model is scored on its own run's held-out text unless --held-out, --pairs or --choices asks for something else and --data for nothing.
A pair counts when its good sentence has the higher pseudo-log-likelihood; a tie is wrong; the score is the mean over paradigms.
A question counts when its right choice has the highest log-likelihood after the context: in acc as it is, in acc_norm over its characters.")]
pub struct Args {
    /// A run directory, a checkpoint or a Hugging Face folder
    model: PathBuf,
    /// Shards whose held-out split to score on; of the run's own plan unless given
    #[arg(long)]
    data: Option<String>,
    /// A named set of shards whose held-out split to score on; may be repeated
    #[arg(long, value_name = "NAME=DIR")]
    held_out: Vec<String>,
    /// Minimal pairs to score: a file in BLiMP's format, a folder of them, or `pocket`
    #[arg(long, value_name = "FILE")]
    pairs: Option<String>,
    /// Multiple-choice questions for a causal model: a .jsonl file in HellaSwag's, PIQA's or ARC's shape, or of
    /// `context`, `choices` and `answer`; may be repeated
    #[arg(long, value_name = "FILE")]
    choices: Vec<PathBuf>,
    /// What is masked while a token of a pair is scored: it alone, or it and the later pieces of its word
    #[arg(long, value_parser = Pll::WORDS, default_value = Pll::WORDS[0], requires = "pairs")]
    pll: String,
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

/// What a model scored.
#[derive(Serialize)]
struct Scores {
    #[serde(flatten)]
    own: Option<Evaluation>,
    /// Losses on other held-out sets, by the sets' names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    held_out: BTreeMap<String, Evaluation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pairs: Option<PairScores>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    choices: Vec<FileScores>,
}

/// What a model scored on a file of questions.
#[derive(Serialize)]
struct FileScores {
    file: PathBuf,
    #[serde(flatten)]
    scores: ChoiceScores,
    /// 95 % intervals over other questions of their kind.
    acc_interval: Option<Interval>,
    acc_norm_interval: Option<Interval>,
}

/// What was asked for, opened and checked: nothing is scored before all of it is.
struct Wanted {
    own: Option<Shards>,
    teacher: Option<ModelFolder>,
    held_out: Vec<HeldOutSet>,
    pairs: Option<Vec<MinimalPair>>,
    choices: Vec<(PathBuf, Vec<MultipleChoice>)>,
}

pub fn run(args: Args) -> Result<()> {
    let folder = ModelFolder::open(&args.model)?;
    folder.check()?;
    let plan = run_of(&args.model).map(|run| Plan::load(&run.join("plan.toml"))).transpose()?;
    let tokenizer = folder.tokenizer()?;
    let wanted = open(&args, plan.as_ref(), &tokenizer, &folder.path)?;
    let device = args.device.choose("auto")?;
    let model = folder.load(&device.handle)?;
    let options = held_out_options(plan.as_ref(), args.length, &folder.shape);
    let rows = args.rows.unwrap_or(usize::MAX);

    let pairs = wanted.pairs.map(|pairs| of_pairs(&args, &model, &tokenizer, &pairs, &device)).transpose()?;
    let of_choices = |(file, questions)| of_choices(file, &model, &tokenizer, questions, &device);
    let choices = wanted.choices.into_iter().map(of_choices).collect::<Result<Vec<_>>>()?;
    let own = match &wanted.own {
        Some(shards) => {
            let teacher = wanted.teacher.map(|teacher| teacher.load(&device.handle)).transpose()?.map(ModelTeacher::new);
            let teacher = teacher.as_ref().map(|teacher| teacher as &dyn Teacher);
            Some(evaluate(&model, &Batches::new(shards, Split::HeldOut, options)?, rows, teacher, &device.handle)?)
        }
        None => None,
    };
    let mut held_out = BTreeMap::new();
    for set in &wanted.held_out {
        if interrupted() {
            return Err(Error::interrupted("nothing was written"));
        }
        held_out.insert(set.name.clone(), set.score(&model, options, rows, &device.handle)?);
    }
    let scores = Scores { own, held_out, pairs, choices };
    match args.json {
        true => print_json(&scores),
        false => print!("{}", scores.text(folder.shape.family().objective())),
    }
    Ok(())
}

fn open(args: &Args, plan: Option<&Plan>, tokenizer: &Tokenizer, folder: &Path) -> Result<Wanted> {
    let is_own = args.data.is_some() || args.held_out.is_empty() && args.pairs.is_none() && args.choices.is_empty();
    let teacher = args.teacher.as_deref().map(ModelFolder::open).transpose()?;
    let own = match is_own {
        true => {
            let name = args.data.clone().or_else(|| plan.map(|plan| plan.data.shards.clone())).ok_or_else(|| {
                Error::new(format!("{} has no plan that names its data", args.model.display()))
                    .help("name the shards: --data DIR")
            })?;
            let shards = open_shards(&name)?;
            must_share_vocabulary(&shards, &name, tokenizer, &folder.display().to_string())?;
            if let Some(teacher) = &teacher {
                must_share_vocabulary(&shards, &name, &teacher.tokenizer()?, &teacher.path.display().to_string())?;
            }
            Some(shards)
        }
        false if teacher.is_some() => {
            return Err(
                Error::new("--teacher is for held-out text of the run's own, and none is scored").help("name it: --data DIR")
            );
        }
        false => None,
    };
    let mut held_out: Vec<HeldOutSet> = Vec::new();
    for written in &args.held_out {
        let (name, from) =
            written.split_once('=').filter(|(name, from)| !name.is_empty() && !from.is_empty()).ok_or_else(|| {
                Error::new(format!("{written:?} does not name a set")).help("a name, = and a folder: --held-out imdb=data/imdb")
            })?;
        if held_out.iter().any(|set| set.name == name) {
            return Err(Error::new(format!("two sets are called {name:?}")).help("give every set a name of its own"));
        }
        let set = HeldOutSet::open(name, from)?;
        set.must_fit(tokenizer, &folder.display().to_string())?;
        held_out.push(set);
    }
    let pairs = match args.pairs.as_deref() {
        Some("pocket") => Some(pocket_pairs()),
        Some(input) => Some(read_pairs(input)?),
        None => None,
    };
    let questions = |file: &PathBuf| Ok((file.clone(), read_choices(file)?));
    let choices = args.choices.iter().map(questions).collect::<Result<Vec<_>>>()?;
    Ok(Wanted { own, teacher, held_out, pairs, choices })
}

fn of_pairs(
    args: &Args,
    model: &impl LanguageModel,
    tokenizer: &Tokenizer,
    pairs: &[MinimalPair],
    device: &Device,
) -> Result<PairScores> {
    let pll = Pll::from_word(&args.pll).unwrap_or_default();
    let score = |tick: Tick| score_pairs(model, tokenizer, pairs, pll, &device.handle, tick);
    watched("pairs, in tokens", score, |scores| format!("{} pairs scored", scores.pairs))
}

fn of_choices(
    file: PathBuf,
    model: &impl LanguageModel,
    tokenizer: &Tokenizer,
    questions: Vec<MultipleChoice>,
    device: &Device,
) -> Result<FileScores> {
    let score = |tick: Tick| score_choices(model, tokenizer, &questions, &device.handle, tick);
    let scores = watched("choices, in tokens", score, |scores| format!("{} questions scored", scores.questions))?;
    let interval = |accuracy: f64| bootstrap_95(&[items(accuracy, scores.questions)]);
    let [acc_interval, acc_norm_interval] = [scores.acc, scores.acc_norm].map(interval);
    Ok(FileScores { file, scores, acc_interval, acc_norm_interval })
}

/// What `score` comes to, while its progress is shown; an interrupt ends it.
fn watched<T>(unit: &str, score: impl FnOnce(Tick) -> Result<T>, end: impl Fn(&T) -> String) -> Result<T> {
    let console = Console::stderr();
    let mut progress = None;
    let mut tick = |done: usize, of: usize| {
        if interrupted() {
            return Err(Error::interrupted("nothing was written"));
        }
        progress.get_or_insert_with(|| console.run(unit, of as u64, 0)).reach(done as u64);
        Ok(())
    };
    let scores = score(&mut tick)?;
    if let Some(progress) = progress {
        progress.finish(&end(&scores));
    }
    Ok(scores)
}

impl Scores {
    fn text(&self, objective: ObjectiveKind) -> String {
        let mut out = String::new();
        let [accuracy, tokens] = match objective {
            ObjectiveKind::Masked => ["masked accuracy", "masked tokens"],
            ObjectiveKind::Causal => ["accuracy", "tokens"],
        };
        if let Some(own) = &self.own {
            let _ = writeln!(out, "held-out loss     {:.4} {}", own.held_out_loss, objective.loss_unit());
            let _ = writeln!(out, "perplexity        {:.2}", own.perplexity);
            if let Some(bits) = own.bits_per_byte {
                let _ = writeln!(out, "bits a byte       {bits:.4}");
            }
            let _ = writeln!(out, "{accuracy:<17} {:.2} %", 100.0 * own.masked_accuracy);
            if let Some(agreement) = own.teacher_agreement {
                let _ = writeln!(out, "teacher agrees    {:.2} %", 100.0 * agreement);
            }
            let _ = writeln!(out, "{tokens:<17} {}", own.masked_tokens);
        }
        if !self.held_out.is_empty() {
            let wide = self.held_out.keys().map(|name| name.chars().count()).max().unwrap_or(0).max("held out".len());
            let _ = writeln!(out, "{:<wide$}    loss  perplexity  accuracy  {tokens:>13}", "held out");
            for (name, found) in &self.held_out {
                let Evaluation { held_out_loss: loss, perplexity, masked_accuracy, masked_tokens, .. } = found;
                let percent = 100.0 * masked_accuracy;
                let _ = writeln!(out, "{name:<wide$}  {loss:6.4}  {perplexity:10.2}  {percent:6.2} %  {masked_tokens:13}");
            }
        }
        if let Some(pairs) = &self.pairs {
            out += &pairs_table(pairs);
        }
        if !self.choices.is_empty() {
            out += &choices_table(&self.choices);
        }
        out
    }
}

/// 95 % interval of the mean accuracy, by the bootstrap over each paradigm's pairs.
fn interval(scores: &PairScores) -> Option<Interval> {
    let items = |own: &ParadigmScore| items(own.accuracy, own.pairs);
    bootstrap_95(&scores.paradigms.iter().map(items).collect::<Vec<_>>())
}

/// A one for each of `count` items that is right, and a zero for each of the others.
fn items(accuracy: f64, count: u64) -> Vec<f64> {
    let right = (accuracy * count as f64).round() as u64;
    (0..count).map(|item| if item < right { 1.0 } else { 0.0 }).collect()
}

/// A row a file of questions.
fn choices_table(files: &[FileScores]) -> String {
    let name = |own: &FileScores| own.file.display().to_string();
    let wide = files.iter().map(|own| name(own).chars().count()).max().unwrap_or(0).max("multiple choice".len());
    let ([acc, acc_norm], range) = (["acc", "acc_norm"], "95 %");
    let mut out =
        format!("{:<wide$}  questions  {acc:>8}  {range:>15}  {acc_norm:>8}  {range:>15}    chance\n", "multiple choice");
    let share = |share: f64| format!("{:.2} %", 100.0 * share);
    let ends = |found: Option<Interval>| {
        found.map_or("-".to_owned(), |ends| format!("{:.2} to {:.2}", 100.0 * ends.low, 100.0 * ends.high))
    };
    for own in files {
        let ChoiceScores { questions, acc, acc_norm, chance, .. } = own.scores;
        let [acc, acc_norm, chance] = [acc, acc_norm, chance].map(share);
        let [of_acc, of_norm] = [own.acc_interval, own.acc_norm_interval].map(ends);
        let name = name(own);
        let _ = writeln!(out, "{name:<wide$}  {questions:>9}  {acc:>8}  {of_acc:>15}  {acc_norm:>8}  {of_norm:>15}  {chance:>8}");
    }
    for cut in files.iter().filter_map(|own| own.scores.cut.as_ref()) {
        let which = if cut.questions > 1 { format!(" and {} more", cut.questions - 1) } else { String::new() };
        let tokens = plural(cut.most_tokens, "token");
        let _ = writeln!(out, "too long for the model, cut at the context's beginning by up to {tokens}: {}{which}", cut.first);
    }
    out
}

/// A row a paradigm under each phenomenon, then the mean.
fn pairs_table(scores: &PairScores) -> String {
    let names = scores.paradigms.iter().map(|own| own.paradigm.chars().count() + 2);
    let wide = names.chain(scores.phenomena.iter().map(|own| own.phenomenon.chars().count())).max().unwrap_or(0).max(26);
    let mut out = format!("{:<wide$}  pairs  accuracy  margin in nats\n", "minimal pairs");
    let row = |name: &str, pairs: &str, accuracy: f64, margin: f64| {
        format!("{name:<wide$}  {pairs:>5}  {:6.2} %  {margin:+14.3}\n", 100.0 * accuracy)
    };
    let paradigms = |out: &mut String, phenomenon: &str| {
        for own in scores.paradigms.iter().filter(|own| own.phenomenon == phenomenon) {
            *out += &row(&format!("  {}", own.paradigm), &own.pairs.to_string(), own.accuracy, own.margin);
        }
    };
    for phenomenon in &scores.phenomena {
        out += &row(&phenomenon.phenomenon, "", phenomenon.accuracy, phenomenon.margin);
        paradigms(&mut out, &phenomenon.phenomenon);
    }
    paradigms(&mut out, "");
    out += &row("mean over paradigms", &scores.pairs.to_string(), scores.accuracy, scores.margin);
    if let Some(found) = interval(scores) {
        let _ =
            writeln!(out, "over other pairs of these paradigms: {:.2} to {:.2} % (95 %)", 100.0 * found.low, 100.0 * found.high);
    }
    if scores.ties > 0 {
        let _ = writeln!(out, "{} ties, counted as wrong: to this vocabulary their sentences may be the same", scores.ties);
    }
    out
}
