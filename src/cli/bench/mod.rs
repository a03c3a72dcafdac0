//! `upstill bench`: how fast, beside what.

mod layers;
mod text;

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;

use super::{DeviceArg, print_json};
use crate::bench::{
    LONG_SIZE, LOSS_STEP_SIZES, LossSize, LstmSize, PAPER_SIZE, RanksBenchOptions, RanksRow, Row, STEP_SIZES, StepBenchOptions,
    StepRow, StepSize, StepSpent, agree, answer_steps, bench_growth, bench_loss, bench_lstm, bench_ranks, bench_step,
    bench_step_forms, growth_page,
};
use crate::config::Family;
use crate::device::{Device, DeviceKind, Kernels, Precision, Traits};
use crate::error::{Error, IoContext, Result};
use crate::files::{can_write, write_text};
use crate::kernels::Spent;
use crate::train::Ranks;

#[derive(clap::Subcommand)]
pub enum BenchCommand {
    /// The distillation loss in each form, alone, with the head and in a whole step, beside PyTorch's
    Loss(Loss),
    /// A whole step of distillation in each form, beside PyTorch's at its best and as most write it
    Step(Step),
    /// Text to tokens: `data build` beside the tokenizer library's own batches and Python's `datasets.map`
    Data(text::Data),
    /// What lies before the first step on a data folder, and whether late steps' batches take longer
    Start(text::Start),
    /// One pass over real sentences: packed rows, a sentence a row, and `transformers`' Trainer with a sentence a row
    Train(text::Train),
    /// How a step's time grows with batch, length, layers, width and vocabulary, as charts
    Growth(Growth),
    /// Whether this device trains as the CPU does: a small run on both, step by step
    Agree(Agree),
    /// The student's two LSTMs, forward and backward, beside `torch.nn.LSTM`
    Lstm(Lstm),
    /// Norms, gates and kinds of attention in each form, forward and backward, beside PyTorch's
    Layers(layers::Layers),
}

pub fn run(command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Loss(args) => run_loss(args),
        BenchCommand::Step(args) => run_step(args),
        BenchCommand::Data(args) => text::run_data(args),
        BenchCommand::Start(args) => text::run_start(args),
        BenchCommand::Train(args) => text::run_train(args),
        BenchCommand::Growth(args) => run_growth(args),
        BenchCommand::Agree(args) => run_agree(args),
        BenchCommand::Lstm(args) => run_lstm(args),
        BenchCommand::Layers(args) => layers::run(args),
    }
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill bench loss
  upstill bench loss --python .venv/bin/python --json
  upstill bench loss --slots 4096 --width 768 --no-step

The forms take turns, and the median counts, so that other work on the machine falls on all alike.")]
pub struct Loss {
    /// Masked slots at once
    #[arg(long, default_value_t = 1024)]
    slots: usize,
    /// Tokens in the vocabulary
    #[arg(long, default_value_t = 30522)]
    vocab: usize,
    /// Width of the hidden states that the head reads
    #[arg(long, default_value_t = 128)]
    width: usize,
    /// Times that each form runs
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Leave out the whole step
    #[arg(long)]
    no_step: bool,
    /// A Python that may have PyTorch
    #[arg(long, default_value = "python3", env = "UPSTILL_PYTHON")]
    python: String,
    #[command(flatten)]
    device: DeviceArg,
    /// Print the rows on standard output for machines
    #[arg(long)]
    json: bool,
}

fn run_loss(args: &Loss) -> Result<()> {
    let device = args.device.choose("auto")?;
    let size = LossSize { slots: args.slots.max(1), vocab: args.vocab.max(1), width: args.width.max(1) };
    let rounds = args.rounds.max(1);
    let mut rows = bench_loss(size, rounds, &device, &args.python, |note| eprintln!("{note}"));
    for step in LOSS_STEP_SIZES.iter().filter(|_| !args.no_step) {
        rows.extend(bench_step_forms(*step, rounds, &device)?);
    }
    if args.json {
        print_json(&serde_json::json!({ "rows": rows }));
        return Ok(());
    }
    println!("{}", table(&rows));
    Ok(())
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill bench step
  upstill bench step --against pytorch --python .venv/bin/python --json
  upstill bench step --sizes 1 --rounds 9
  upstill bench step --precision f32,bf16 --form fused
  upstill bench step --paper --device cuda --precision bf16
  upstill bench step --family modernbert
  upstill bench step --family llama
  upstill bench step --family gpt2
  upstill bench step --family modernbert --long
  upstill bench step --ranks 2 --sizes 2                   one thread and two, as workers, ranks and PyTorch's processes

Every form takes its turn in every round, with PyTorch's; a ratio is the median over the rounds of each round's.")]
pub struct Step {
    /// What to compare with
    #[arg(long, value_parser = ["pytorch", "nothing"], default_value = "pytorch")]
    against: String,
    /// How many of the sizes, from the smallest up: 2 layers of 128, 4 of 256, 6 of 384
    #[arg(long, default_value_t = STEP_SIZES.len())]
    sizes: usize,
    /// What the layers of student and teacher are
    #[arg(long, value_parser = PossibleValuesParser::new(Family::WORDS), default_value = Family::Bert.word())]
    family: String,
    /// The paper's pair in place of the sizes: 6 layers of 768 with a teacher of 4, 128 packed rows of 128
    #[arg(long)]
    paper: bool,
    /// Long texts in place of the sizes: 4 layers of 256, rows of 1024; of modernbert with its window and without
    #[arg(long, conflicts_with = "paper")]
    long: bool,
    /// Rows a step, in place of the size's own
    #[arg(long)]
    rows: Option<usize>,
    /// Numbers of our products, several with commas; PyTorch's on a CPU are f32 and bf16
    #[arg(long, value_parser = ["f32", "bf16", "f16"], default_value = "f32", value_delimiter = ',')]
    precision: Vec<String>,
    /// One form alone: composed, fused or cubecl; all that the device has, unless given
    #[arg(long, value_parser = PossibleValuesParser::new(Kernels::WORDS))]
    form: Option<String>,
    /// So many threads beside one, as workers, as ranks of MPI, and as processes of PyTorch; on the CPU, in f32
    #[arg(long, value_parser = clap::value_parser!(u16).range(2..), conflicts_with_all = ["paper", "precision", "form", "rows", "long"])]
    ranks: Option<u16>,
    /// Answers as one of those, with so many workers
    #[arg(long, hide = true)]
    answers: Option<usize>,
    /// Turns of each form: a step, or on CUDA 8 in a row
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A Python that may have PyTorch
    #[arg(long, default_value = "python3", env = "UPSTILL_PYTHON")]
    python: String,
    #[command(flatten)]
    device: DeviceArg,
    /// Print the rows on standard output for machines
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill bench lstm
  upstill bench lstm --rounds 5 --json")]
pub struct Lstm {
    /// Rows at once
    #[arg(long, default_value_t = 64)]
    rows: usize,
    /// Tokens of a row
    #[arg(long, default_value_t = 64)]
    steps: usize,
    /// Width of a word vector
    #[arg(long, default_value_t = 300)]
    words: usize,
    /// Units of a direction
    #[arg(long, default_value_t = 600)]
    hidden: usize,
    /// Times that each form runs
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A Python that may have PyTorch
    #[arg(long, default_value = "python3", env = "UPSTILL_PYTHON")]
    python: String,
    #[command(flatten)]
    device: DeviceArg,
    /// Print the rows on standard output for machines
    #[arg(long)]
    json: bool,
}

fn run_step(args: &Step) -> Result<()> {
    let device = args.device.choose("auto")?;
    let sizes = step_sizes(args)?;
    if let Some(workers) = args.answers {
        return answer(*sizes.last().unwrap_or(&STEP_SIZES[0]), workers);
    }
    if let Some(ranks) = args.ranks {
        return run_ranks(args, &sizes, ranks.into(), &device);
    }
    let options = StepBenchOptions {
        sizes,
        rounds: args.rounds.max(1),
        precisions: args.precision.iter().map(|word| precision(word)).collect(),
        forms: forms(args.form.as_deref(), &device)?,
        python: (args.against == "pytorch").then_some(args.python.as_str()),
    };
    let rows = bench_step(&options, &device, |note| eprintln!("{note}"))?;
    if args.json {
        print_json(&serde_json::json!({ "rows": rows }));
        return Ok(());
    }
    println!("{}", step_table(&rows));
    Ok(())
}

/// A step on one thread and on several.
fn run_ranks(args: &Step, sizes: &[StepSize], ranks: usize, device: &Device) -> Result<()> {
    if device.kind != DeviceKind::Cpu {
        return Err(
            Error::new(format!("--ranks measures threads of the CPU, and the device is {device}")).help("add --device cpu")
        );
    }
    let upstill = std::env::current_exe().doing("find", "this command")?;
    let options = RanksBenchOptions {
        sizes,
        ranks,
        rounds: args.rounds.max(1),
        python: (args.against == "pytorch").then_some(args.python.as_str()),
        upstill: &upstill,
    };
    let rows = bench_ranks(&options, |note| eprintln!("{note}"))?;
    if args.json {
        print_json(&serde_json::json!({ "rows": rows }));
        return Ok(());
    }
    println!("{:<40} {:<30} {:>7} {:>9} {:>8}  against PyTorch", "size", "form", "threads", "tokens/s", "scaling");
    for row in &rows {
        let ratio = row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2} x"));
        let RanksRow { size, form, threads, tokens_per_s, scaling, .. } = row;
        println!("{size:<40} {form:<30} {threads:>7} {tokens_per_s:>9.0} {scaling:>6.2} x  {ratio}");
    }
    Ok(())
}

/// One of the processes that [`run_ranks`] starts: a line of standard input asks for a step, a line of standard output
/// says what it took.
fn answer(size: StepSize, workers: usize) -> Result<()> {
    let ranks = Ranks::join()?;
    let mut lines = std::io::stdin().lines();
    answer_steps(size, workers.max(1), ranks.as_ref(), |seconds| {
        match seconds {
            Some(seconds) => println!("{seconds}"),
            None => println!("ready {} {}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH),
        }
        lines.next().is_some_and(|line| line.is_ok())
    })
}

/// The sizes that the arguments ask for, of their family.
fn step_sizes(args: &Step) -> Result<Vec<StepSize>> {
    let Some(sizes) = STEP_SIZES.get(..args.sizes).filter(|sizes| !sizes.is_empty()) else {
        return Err(Error::new(format!("there are {} sizes, not {}", STEP_SIZES.len(), args.sizes))
            .help("--sizes 1 is the smallest alone"));
    };
    let family = Family::from_word(&args.family).unwrap_or_default();
    let long = [LONG_SIZE, StepSize { window: None, ..LONG_SIZE }];
    let sizes = match (args.paper, args.long, family) {
        (true, _, _) => &[PAPER_SIZE],
        (_, true, Family::ModernBert | Family::ModernBertDecoder) => &long[..],
        // The others have no window.
        (_, true, _) => &long[..1],
        _ => sizes,
    };
    let with_rows = |size: &StepSize| StepSize { batch: args.rows.unwrap_or(size.batch).max(1), ..*size };
    Ok(sizes.iter().map(with_rows).map(|size| size.of(family)).collect())
}

/// The form of a word that the command line has checked, or all that the device has.
fn forms(word: Option<&str>, device: &Device) -> Result<Vec<Kernels>> {
    match word.and_then(Kernels::from_word) {
        Some(form) => form.must_be_on(&device.handle).map(|()| vec![form]),
        None => Ok(Traits::of(&device.handle).kernels.to_vec()),
    }
}

/// The precision of a word that the command line has checked.
fn precision(word: &str) -> Precision {
    Precision::from_word(word).unwrap_or(Precision::F32)
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill bench growth --out growth.html")]
pub struct Growth {
    /// Times that each size runs
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where the charts go, an HTML file
    #[arg(long, default_value = "growth.html")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArg,
    /// Print the points on standard output for machines
    #[arg(long)]
    json: bool,
}

fn run_growth(args: &Growth) -> Result<()> {
    can_write(&args.out)?;
    let device = args.device.choose("auto")?;
    let all = bench_growth(args.rounds.max(1), &device, |of| eprintln!("step time over {of}"))?;
    write_text(&args.out, &growth_page(&all, &device))?;
    if args.json {
        print_json(&serde_json::json!({ "growth": all }));
        return Ok(());
    }
    for growth in &all {
        let points = growth.points.iter().map(|point| format!("{:>7}: {:>6.1} ms", point.at, point.step_ms));
        let points: String = points.collect::<Vec<_>>().join(" ");
        println!("{:<13} {points}  at most {:.0} % off a straight line in FLOPs", growth.of, 100.0 * growth.off);
    }
    println!("charts: {}", args.out.display());
    Ok(())
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill bench agree --device wgpu
  upstill bench agree --device cuda --precision bf16 --workers 2")]
pub struct Agree {
    /// Steps of the run
    #[arg(long, default_value_t = 30)]
    steps: u64,
    /// Numbers of the device's products; the CPU's are f32
    #[arg(long, value_parser = ["f32", "bf16", "f16"], default_value = "f32")]
    precision: String,
    /// One form alone: composed, fused or cubecl; all that the device has, unless given
    #[arg(long, value_parser = PossibleValuesParser::new(Kernels::WORDS))]
    form: Option<String>,
    /// Workers that share each batch, a GPU each from the device on
    #[arg(long, default_value_t = 1)]
    workers: usize,
    #[command(flatten)]
    device: DeviceArg,
    /// Print losses on standard output for machines
    #[arg(long)]
    json: bool,
}

fn run_agree(args: &Agree) -> Result<()> {
    let device = args.device.choose("auto")?;
    let (workers, precision) = (args.workers.max(1), precision(&args.precision));
    let forms = forms(args.form.as_deref(), &device)?;
    let rows = agree(&device, workers, precision, &forms, args.steps.max(1), |note| eprintln!("{note}"))?;
    match args.json {
        true => print_json(&serde_json::json!({ "rows": rows })),
        false => rows.iter().for_each(|row| {
            let (first, last) = (row.losses.first().unwrap_or(&f64::NAN), row.losses.last().unwrap_or(&f64::NAN));
            println!(
                "{:<9} {}, {} wide: loss {first:.4} to {last:.4} in {} steps, off by {:.1e} at most ({:.0e} allowed)",
                row.form,
                row.precision,
                row.hidden,
                row.losses.len(),
                row.off,
                row.allowed
            );
        }),
    }
    match rows.iter().find(|row| row.off.is_nan() || row.off > row.allowed) {
        None => Ok(()),
        Some(row) => Err(Error::check(format!("{} in {} does not train as the CPU does", row.form, row.precision))
            .at(&row.device)
            .help("UPSTILL_KERNELS=composed takes burn's operations; report this device with the losses of --json")),
    }
}

fn step_table(rows: &[StepRow]) -> String {
    let width = rows.iter().map(|row| row.size.len()).max().unwrap_or_default().max(40);
    let mut out = format!(
        "{:<width$} {:<40} {:>9} {:>8} {:>8} {:>9}  {}\n",
        "size", "form", "tokens/s", "GFLOP/s", "of peak", "memory", "against PyTorch at its best"
    );
    for row in rows {
        let ratio = row.ratio.zip(row.ratio_range).map(|(ratio, [low, high])| format!("{ratio:.2} x ({low:.2} to {high:.2})"));
        let line = format!(
            "{:<width$} {:<40} {:>9.0} {:>8.1} {:>6.0} % {:>9}  {}",
            row.size,
            format!("{}, {}", row.form, row.precision),
            row.tokens_per_s,
            row.flops_per_s / 1e9,
            row.mfu * 100.0,
            row.peak_bytes.map_or_else(String::new, |bytes| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))),
            ratio.unwrap_or_default(),
        );
        out.push_str(line.trim_end());
        out.push('\n');
        out.extend(row.spent.map(|spent| format!("    {}\n", shares(&spent))));
    }
    out.trim_end().to_owned()
}

/// Where a step's time went, in percent.
fn shares(step: &StepSpent) -> String {
    let Spent { dense_s, attention_s, norm_s, loss_s, optimizer_s, look_up_s } = step.spent;
    let rest_s = step.step_s - dense_s - attention_s - norm_s - loss_s - optimizer_s - look_up_s;
    let share = |seconds: f64| format!("{:.0} %", 100.0 * seconds / step.step_s);
    format!(
        "dense layers {}, attention {}, norms {}, loss with head {}, optimizer {}, look-ups {}, rest {}; a batch is made in {:.1} ms meanwhile",
        share(dense_s),
        share(attention_s),
        share(norm_s),
        share(loss_s),
        share(optimizer_s),
        share(look_up_s),
        share(rest_s),
        1e3 * step.batch_s
    )
}

fn run_lstm(args: &Lstm) -> Result<()> {
    let device = args.device.choose("auto")?;
    let at_least = |number: usize| number.max(1);
    let size = LstmSize {
        rows: at_least(args.rows),
        steps: at_least(args.steps),
        words: at_least(args.words),
        hidden: at_least(args.hidden),
    };
    let rows = bench_lstm(size, at_least(args.rounds), &device, &args.python, |note| eprintln!("{note}"));
    match args.json {
        true => print_json(&serde_json::json!({ "rows": rows })),
        false => println!("{}", table(&rows)),
    }
    Ok(())
}

fn table(rows: &[Row]) -> String {
    let mut out = format!(
        "{:<14} {:<28} {:<17} {:>10} {:>10} {:>10} {:>11}  {}\n",
        "what", "size", "form", "time", "of copying", "peak", "tokens/s", "faster than"
    );
    for row in rows {
        let or_blank = |text: Option<String>| text.unwrap_or_default();
        let line = format!(
            "{:<14} {:<28} {:<17} {:>7.1} ms {:>10} {:>10} {:>11}  {}",
            row.what,
            row.size,
            row.form,
            row.seconds * 1e3,
            or_blank(row.copy_share.map(|share| format!("{:.0} %", share * 100.0))),
            or_blank(row.peak_bytes.map(|bytes| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20)))),
            or_blank(row.tokens_per_s.map(|speed| format!("{speed:.0}"))),
            or_blank(row.ratio.map(|ratio| format!("{}: {ratio:.2} x", row.peer))),
        );
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_leaves_blank_what_was_not_measured() {
        let row = Row {
            what: "loss",
            size: "[1024, 30522]".into(),
            form: "fused",
            device: "cpu".into(),
            seconds: 0.05,
            tokens_per_s: None,
            fewest_bytes: Some(375_054_336),
            copy_share: Some(0.5),
            peak_bytes: Some(150 << 20),
            peer: "composed",
            ratio: Some(4.0),
        };
        let step =
            Row { what: "step", copy_share: None, peak_bytes: None, tokens_per_s: Some(4000.4), ratio: None, ..row.clone() };
        insta::assert_snapshot!(table(&[row, step]), @"
        what           size                         form                    time of copying       peak    tokens/s  faster than
        loss           [1024, 30522]                fused                50.0 ms       50 %    150 MiB              composed: 4.00 x
        step           [1024, 30522]                fused                50.0 ms                              4000
        ");
    }
}
