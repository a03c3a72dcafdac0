//! `upstill study transfer`.

use std::path::{Path, PathBuf};

use super::print_json;
use super::study_args::{Common, default_jobs, folder};
use crate::config::RunFile;
use crate::error::{Error, Result};
use crate::files::{Lock, write_text};
use crate::log::Console;
use crate::study::registration::Registration;
use crate::study::{Size, StudyOptions, TransferStudySpec, register, run_transfer_study, transfer_tables};
use crate::train::{RunOptions, plan_run, train_run, waiting};

#[derive(clap::Args)]
pub struct Args {
    /// How much of it; small unless given
    #[arg(long, value_enum)]
    size: Option<Size>,
    /// A folder with train.tsv, test.tsv and unsup.txt or the like, in place of the pocket language
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// With --data: the teacher, a pre-trained or fine-tuned model's folder; given again: a larger one beside it
    #[arg(long, value_name = "MODEL", requires = "data")]
    teacher: Vec<PathBuf>,
    /// Seeds of every arm; 5 unless given
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// Override a key of the run file, as in model.hidden=150; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    common: Common,
}

impl Args {
    fn size(&self) -> Size {
        self.size.unwrap_or(Size::Small)
    }
}

pub(super) fn run(args: Args) -> Result<()> {
    let device = args.common.device.choose("auto")?;
    let size = format!("{:?}", args.size()).to_lowercase();
    let dir = folder(&args.common, &format!("study-transfer-{size}"))?;
    let (spec, teachers) = match &args.data {
        Some(data) => (of_files(&args, data)?, Vec::new()),
        None => of_pocket(&args, &dir)?,
    };
    // Before anything is trained in a folder that may be another study's.
    let text = toml::to_string(&spec).expect("a study in memory can be written");
    let (text, _in_use) = register(&dir, &text, |_| false)?;
    let registered = Registration::of(&text, None).study_file;
    for (folder, text) in &teachers {
        let (plan, shards) = plan_run(&RunFile::parse(text, "the pocket teacher")?)?;
        let (console, name) = (Console::stderr(), "pre-training the teacher");
        let lock = dir.join("locks").join(folder.file_name().unwrap_or_default());
        let _lock = Lock::wait_file(&lock, &mut waiting(&console, "the teacher"))?;
        train_run(&plan, &shards, &RunOptions { dir: folder, resume: true, name, console: &console, device: &device })?;
    }
    let console = Console::study(spec.cell_count());
    let jobs = args.common.jobs.unwrap_or_else(|| default_jobs(&device));
    let options = StudyOptions { dir: &dir, jobs, device: &device, console: &console, cells: &[], registered: &registered };
    let study = run_transfer_study(&spec, &options)?;
    console.finish();
    let text = serde_json::to_string_pretty(&study).expect("results in memory can be written") + "\n";
    write_text(&dir.join("study.json"), &text)?;
    study.notes.iter().for_each(|note| eprintln!("note: {note}"));
    match args.common.json {
        true => print_json(&study),
        false => println!("{}", transfer_tables(&study)),
    }
    Ok(())
}

fn seeds(args: &Args) -> Vec<u64> {
    let unless_given = if args.size() == Size::Tiny { 2 } else { 5 };
    (1..=args.seeds.unwrap_or(unless_given)).collect()
}

/// The pocket language's study, and the run files of its teachers by the folders that they are trained in.
fn of_pocket(args: &Args, dir: &Path) -> Result<(TransferStudySpec, Vec<(PathBuf, String)>)> {
    let mut teachers = vec![(dir.join("teacher"), pocket_teacher(args.size(), false))];
    if args.size() == Size::Full {
        teachers.push((dir.join("larger-teacher"), pocket_teacher(args.size(), true)));
    }
    let larger = teachers.get(1).map(|(folder, _)| folder.display().to_string());
    let base = with_settings(TransferStudySpec::pocket_base(&teachers[0].0, args.size()), args)?;
    let title = "A pre-trained teacher into a BiLSTM: the pocket language, few labels";
    Ok((TransferStudySpec::paper(title, &base, &seeds(args), args.size(), larger.as_deref()), teachers))
}

/// A small BERT, pre-trained on the pocket language.
fn pocket_teacher(size: Size, larger: bool) -> String {
    let (layers, hidden, steps) = match (size, larger) {
        (Size::Tiny, _) => (1, 32, 6),
        (_, false) => (4, 64, 3000),
        (_, true) => (6, 96, 4000),
    };
    format!(
        "method = \"standalone\"\nseed = 1\n\
         [model]\nlayers = {layers}\nhidden = {hidden}\nheads = {}\nmax_positions = 64\ntoken_types = 2\ndropout = 0.0\n\
         [data]\nshards = \"pocket\"\nrows = \"packed\"\nlength = 64\n\
         [train]\nsteps = {steps}\nbatch = 16\nlr = \"0 -> 3e-3 over 10%, then -> 0 linear\"\n\
         evaluate_every = {steps}\nevaluate_rows = 128\ncheckpoint_every = {}\n",
        hidden / 32,
        (steps / 4).max(1)
    )
}

/// The paper's settings over a folder's files.
fn of_files(args: &Args, data: &Path) -> Result<TransferStudySpec> {
    let (teacher, larger) = match args.teacher.as_slice() {
        [] => {
            return Err(Error::new("a study of your own files needs a teacher")
                .help("name a pre-trained or fine-tuned model with --teacher; `upstill train` pre-trains one on any text"));
        }
        [teacher] => (teacher, None),
        [teacher, larger] => (teacher, Some(larger.display().to_string())),
        more => {
            return Err(Error::new(format!("{} teachers: a study has one, and a larger one beside it", more.len()))
                .help("give --teacher once or twice"));
        }
    };
    let needed = |names: &[&str], what: &str| {
        let help = format!("call it {}.tsv, .csv, .jsonl or .parquet (or .zst, .gz of it)", names[0]);
        find(data, names)?.ok_or_else(|| Error::new(format!("the folder has no file of {what}")).at(data.display()).help(help))
    };
    let (train, test) = (needed(&["train"], "labelled rows")?, needed(&["test"], "test rows")?);
    let name = data.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let mut base = format!(
        "method = \"transfer\"\n[teacher]\nfrom = {:?}\n[data]\ntask = {:?}\ntrain = {:?}\ntest = {:?}\n",
        teacher.display().to_string(),
        name.clone().unwrap_or("files".to_owned()),
        train.display().to_string(),
        test.display().to_string()
    );
    if let Some(path) = find(data, &["unsup", "unlabelled", "unlabeled"])? {
        base += &format!("unlabelled = {:?}\n", path.display().to_string());
    }
    let title = format!("{} into a BiLSTM: {}", teacher.display(), name.unwrap_or_default());
    Ok(TransferStudySpec::paper(&title, &with_settings(base, args)?, &seeds(args), args.size(), larger.as_deref()))
}

/// The first file whose name begins so, tables before text.
pub(super) fn find(folder: &Path, beginnings: &[&str]) -> Result<Option<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|error| Error::io("read", folder, &error))?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    let is_wanted = |name: &String| beginnings.iter().any(|beginning| name.starts_with(beginning));
    let known = [".tsv", ".csv", ".jsonl", ".parquet", ".txt"];
    Ok(known
        .iter()
        .find_map(|ending| names.iter().find(|name| is_wanted(name) && name.contains(ending)))
        .map(|name| folder.join(name)))
}

/// A run file with `--set` over it, each setting in its section.
fn with_settings(base: String, args: &Args) -> Result<String> {
    let mut table: toml::Table = base.parse().map_err(|error| Error::new(format!("the study's base: {error}")))?;
    for assignment in &args.set {
        let wrong = || Error::new(format!("{assignment:?} is not section.key=value")).help("for example: --set train.rounds=20");
        let (path, text) = assignment.split_once('=').ok_or_else(wrong)?;
        let (section, key) = path.trim().split_once('.').ok_or_else(wrong)?;
        let value = format!("x = {text}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("x"));
        let value = value.unwrap_or_else(|| toml::Value::String(text.trim().to_owned()));
        let section = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        section.as_table_mut().ok_or_else(wrong)?.insert(key.to_owned(), value);
    }
    Ok(toml::to_string(&table).expect("a table of plain values can be written"))
}
