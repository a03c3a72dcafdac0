//! What trials happen to: some text, a tokenizer, shards, run files, a finished run; and what each command makes of
//! them undisturbed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;

const SHIM: &str = include_str!("shim.c");

const RUN: &str = "preset = \"standalone\"\n[model]\nlayers = 1\nhidden = 32\nheads = 2\nmax_positions = 32\n\
[data]\nshards = \"data\"\nrows = \"packed\"\nlength = 32\n\
[train]\nsteps = 60\nbatch = 4\nevaluate_every = 20\nevaluate_rows = 8\ncheckpoint_every = 20\n";

const STUDY: &str = "title = \"A small study\"\nseeds = [1, 2]\nbase = \"\"\"\n[model]\nlayers = 1\nhidden = 32\n\
heads = 2\nmax_positions = 32\n[data]\nshards = \"data\"\nlength = 32\n[train]\nsteps = 10\nbatch = 4\nevaluate_rows = 8\n\"\"\"\n\
[[teachers]]\nname = \"teacher\"\nset = [\"preset=standalone\"]\n[[arms]]\nname = \"alone\"\nset = [\"preset=standalone\"]\n\
[[arms]]\nname = \"soft\"\nteacher = \"teacher\"\nset = [\"preset=dwt-normal\"]\n";

const TRANSFER: &str = "method = \"transfer\"\n[model]\nhidden = 8\nwords = 8\ntokens = \"pieces\"\n[teacher]\nfrom = \"run\"\n\
epochs = 1.0\n[data]\ntask = \"mine\"\ntrain = \"labelled.csv\"\ntest = \"labelled.jsonl\"\nper_class = 10\nvalidation = 0.2\nlength = 16\n\
[distill]\nschedule = \"joint\"\n[train]\nbatch = 8\nrounds = 2\nround_steps = 5\n";

/// A command that writes `out`, or something in it.
pub struct Writer {
    pub name: &'static str,
    pub args: &'static [&'static str],
    /// The last argument: what it writes.
    pub out: &'static str,
    /// What is added when it is given again.
    pub again: &'static [&'static str],
    /// The files that hold its result: their names end so.
    result: &'static [&'static str],
    /// What it writes without a disturbance, and how long that takes.
    pub expected: BTreeMap<String, Vec<u8>>,
    pub time: Duration,
}

const TEXT: [&str; 6] = ["tokenizer", "train", "text.txt", "--vocab", "300", "--out"];
const DATA: [&str; 10] =
    ["data", "build", "text.txt", "--tokenizer", "words", "--keep-one-of", "1", "--held-out", "0.1", "--out"];

const FINETUNE: [&str; 16] = [
    "finetune",
    "run",
    "--train",
    "labelled.csv",
    "--dev",
    "labelled.jsonl",
    "--text",
    "text",
    "--label",
    "label",
    "--epochs",
    "1",
    "--seeds",
    "2",
    "--length=16",
    "--out",
];
/// What it says again of a folder, for machines; the folder is the last but one.
pub const FINETUNE_JSON: [&str; 18] = {
    let mut all = [""; 18];
    let mut at = 0;
    while at < FINETUNE.len() {
        all[at] = FINETUNE[at];
        at += 1;
    }
    all[16] = "out";
    all[17] = "--json";
    all
};

fn writers() -> Vec<Writer> {
    let of = |name, args, out, again, result| Writer {
        name,
        args,
        out,
        again,
        result,
        expected: BTreeMap::new(),
        time: Duration::ZERO,
    };
    let writer = |name, args, again, result| of(name, args, "out", again, result);
    vec![
        writer("tokenizer train", &TEXT, &[], &["vocab.txt", "tokenizer.json"]),
        writer("data build", &DATA, &["--force"], &[".tok", "token-counts.bin"]),
        writer("train", &["train", "run.toml", "--device", "cpu", "--out"], &["--resume"], &["model/model.safetensors"]),
        writer("export", &["export", "run"], &[], &["model.safetensors", "vocab.txt", "config.json"]),
        writer("study", &["study", "study.toml", "--device", "cpu", "--out"], &[], &["/model/model.safetensors"]),
        writer("finetune", &FINETUNE, &[], &["model/model.safetensors", "finetune.json"]),
        // Its teacher and what that one says lie beside it.
        of("transfer", &["train", "transfer.toml", "--device", "cpu", "--out"], "out/run", &[], &["run/model/model.safetensors"]),
    ]
}

/// A folder with all of it.
pub struct Scene {
    pub folder: PathBuf,
    command: PathBuf,
    shim: Option<PathBuf>,
    pub writers: Vec<Writer>,
}

/// What a command said and how it ended.
pub struct Ended {
    /// None when a signal or the time limit ended it.
    pub code: Option<i32>,
    pub said: String,
    pub out: Vec<u8>,
}

impl Ended {
    pub fn panicked(&self) -> bool {
        self.said.contains("panicked at") || self.code == Some(101) || self.code == Some(134)
    }
}

/// Longer than any of the commands takes.
const LIMIT: Duration = Duration::from_secs(120);

impl Scene {
    /// Makes a folder and what is in it, and runs each writer once.
    pub fn prepare(command: &Path) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("upstill-torture-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let command = fs::canonicalize(command)
            .map_err(|error| format!("{}: {error}; build it with: cargo build --release", command.display()))?;
        let nouns = ["dog", "cat", "house", "river", "child", "apple", "horse"];
        let sentence = |i: usize| format!("The {} {} sees a {} near number {i}.\n", nouns[i % 7], nouns[i % 5], nouns[i % 3]);
        fs::write(folder.join("text.txt"), (0..600).map(|i| sentence(i) + "\n").collect::<String>())?;
        fs::write(folder.join("run.toml"), RUN)?;
        fs::write(folder.join("study.toml"), STUDY)?;
        fs::write(folder.join("transfer.toml"), TRANSFER)?;
        for (place, (name, before, row)) in (1..).zip([
            ("labelled.csv", "text,label\n", r#""SENTENCE",LABEL"#),
            ("labelled.tsv", "text\tlabel\n", "SENTENCE\tLABEL"),
            ("labelled.jsonl", "", r#"{"text": "SENTENCE", "label": LABEL}"#),
            ("labelled.json", "", r#"{"text": "SENTENCE", "label": LABEL}"#),
        ]) {
            // No text is in two of them: what is tested on is not learnt from.
            let row = |i: usize| {
                row.replace("SENTENCE", sentence(1000 * place + i).trim()).replace("LABEL", &(i % 2).to_string()) + "\n"
            };
            fs::write(folder.join(name), before.to_owned() + &(0..48).map(row).collect::<String>())?;
        }
        let mut scene = Self { shim: shim(&folder), folder, command, writers: writers() };
        scene.must(&[&TEXT[..], &["words"]].concat())?;
        scene.must(&[&DATA[..], &["data"]].concat())?;
        scene.must(&["train", "run.toml", "--device", "cpu", "--out", "run"])?;
        // A run that was cut off after half of its steps.
        let cut = scene.folder.join("cut");
        copy(&scene.folder.join("run"), &cut)?;
        fs::remove_file(cut.join("summary.json"))?;
        fs::remove_dir_all(cut.join("model"))?;
        fs::remove_dir_all(cut.join("checkpoints/step-0000060"))?;
        let mut writers = std::mem::take(&mut scene.writers);
        for writer in &mut writers {
            let started = Instant::now();
            scene.must(&[writer.args, &[writer.out]].concat())?;
            writer.time = started.elapsed();
            writer.expected = writer.result_of(&scene.folder.join("out"));
            // What was written stays, for bits to be flipped in.
            fs::rename(scene.folder.join("out"), scene.folder.join(format!("done-{}", writer.name.replace(' ', "-"))))?;
        }
        scene.writers = writers;
        copy(&scene.folder.join("done-transfer"), &scene.folder.join("cut-transfer"))?;
        fs::remove_dir_all(scene.folder.join("cut-transfer/run"))?;
        Ok(scene)
    }

    pub fn has_shim(&self) -> bool {
        self.shim.is_some()
    }

    /// Runs a command that has to end well.
    pub fn must(&self, args: &[&str]) -> Result<()> {
        let ended = self.run(args, &[])?;
        if ended.code == Some(0) { Ok(()) } else { Err(format!("{args:?} fails undisturbed: {}", ended.said).into()) }
    }

    pub fn started(&self, args: &[&str], env: &[(&str, &str)]) -> Command {
        let mut command = Command::new(&self.command);
        command.args(args).current_dir(&self.folder).env("UPSTILL_DEVICE", "cpu").envs(env.iter().copied()).stdin(Stdio::null());
        if let (Some(shim), false) = (&self.shim, env.is_empty()) {
            command.env("LD_PRELOAD", shim);
        }
        command
    }

    /// Runs a command to its end, or to a limit.
    pub fn run(&self, args: &[&str], env: &[(&str, &str)]) -> Result<Ended> {
        self.wait(&mut self.started(args, env))
    }

    pub fn wait(&self, command: &mut Command) -> Result<Ended> {
        // Through files: a process that fills a pipe would wait for its reader.
        let place = self.folder.join(format!("said-{:?}", std::thread::current().id()));
        let (out, said) = (place.with_extension("out"), place.with_extension("err"));
        let mut child = command.stdout(fs::File::create(&out)?).stderr(fs::File::create(&said)?).spawn()?;
        let started = Instant::now();
        let code = loop {
            if let Some(status) = child.try_wait()? {
                break status.code();
            }
            if started.elapsed() > LIMIT {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Ok(Ended { code, said: String::from_utf8_lossy(&fs::read(&said)?).into_owned(), out: fs::read(&out)? })
    }

    /// Removes what a trial has left.
    pub fn clear(&self, name: &str) {
        let _ = fs::remove_dir_all(self.folder.join(name));
    }

    pub fn remove(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Writer {
    /// The files of a folder that hold this command's result, by their path in it.
    pub fn result_of(&self, folder: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for path in files(folder) {
            let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
            let is_result = self.result.iter().any(|ending| name.ends_with(ending)) && !name.contains("checkpoints/");
            if is_result && let Ok(bytes) = fs::read(&path) {
                found.insert(name, bytes);
            }
        }
        found
    }
}

/// Every file below a folder, in order.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { out.extend(files(&path)) } else { out.push(path) }
    }
    out.sort();
    out
}

/// Copies a folder's files.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from)?);
        fs::create_dir_all(target.parent().unwrap_or(to))?;
        fs::copy(&file, target)?;
    }
    Ok(())
}

fn shim(folder: &Path) -> Option<PathBuf> {
    let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
    fs::write(&source, SHIM).ok()?;
    let mut compiler = Command::new("cc");
    let made = compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
    made.ok()?.success().then_some(library)
}
