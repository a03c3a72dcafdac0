//! One trial of each kind.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::damage::damage;
use super::random::Random;
use super::scene::{Ended, Scene, Writer, copy, files};
use crate::Result;

/// How a trial ended.
pub enum Outcome {
    /// Nothing came of it, or it was refused in words and the same command went on.
    Survived,
    /// Exit code 0 and another result.
    Wrong(String),
    /// A panic, an abort or the time limit.
    Panic(String),
    /// The command, given again, does not get to its end.
    Stuck(String),
}

use Outcome::{Panic, Stuck, Survived, Wrong};

/// The last line that a command said, for a report.
fn last(ended: &Ended) -> String {
    let line = ended.said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing was said");
    line.chars().take(160).collect()
}

/// What is there after a disturbance, and after the same command again.
fn after(scene: &Scene, writer: &Writer, first: Option<&Ended>, how: &str) -> Result<Outcome> {
    let out = scene.folder.join("out");
    let name = writer.name;
    if let Some(first) = first {
        if first.panicked() {
            return Ok(Panic(format!("{name}, {how}: {}", last(first))));
        }
        if first.code == Some(0) && writer.result_of(&out) != writer.expected {
            return Ok(Wrong(format!("{name}, {how}")));
        }
    }
    // A folder that the first left whole may be refused, as an export's is, where nothing is to be replaced.
    let again = scene.run(&[writer.args, &[writer.out], writer.again].concat(), &[])?;
    if again.panicked() || again.code.is_none() {
        return Ok(Panic(format!("{name}, again after {how}: {}", last(&again))));
    }
    let is_right = writer.result_of(&out) == writer.expected;
    Ok(match (again.code, is_right) {
        (_, true) => Survived,
        (Some(0), false) => Wrong(format!("{name}, again after {how}")),
        _ => Stuck(format!("{name}, again after {how}: {}", last(&again))),
    })
}

/// A process is killed at a random moment.
pub fn kill(scene: &Scene, random: &mut Random) -> Result<Outcome> {
    let writer = random.of(&scene.writers);
    scene.clear("out");
    let after_ms = random.below(writer.time.as_millis() as usize + 1);
    let mut command = scene.started(&[writer.args, &[writer.out]].concat(), &[]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    std::thread::sleep(Duration::from_millis(after_ms as u64));
    child.kill()?;
    child.wait()?;
    after(scene, writer, None, &format!("a kill after {after_ms} ms"))
}

/// How many calls that change a file a command makes.
fn calls(scene: &Scene, writer: &Writer) -> Result<usize> {
    scene.clear("out");
    let count = scene.folder.join("count");
    let path = count.display().to_string();
    scene.run(&[writer.args, &[writer.out]].concat(), &[("TORTURE_AT", "0"), ("TORTURE_COUNT", &path)])?;
    scene.clear("out");
    Ok(fs::read_to_string(&count)?.parse()?)
}

/// A process is killed at a call that changes a file.
pub fn kill_at_call(scene: &Scene, random: &mut Random) -> Result<Outcome> {
    let writer = random.of(&scene.writers);
    let at = (1 + random.below(calls(scene, writer)?)).to_string();
    scene.run(&[writer.args, &[writer.out]].concat(), &[("TORTURE_AT", &at), ("TORTURE_DOES", "kill")])?;
    after(scene, writer, None, &format!("a kill at call {at}"))
}

/// A call that changes a file fails.
pub fn fail_at_call(scene: &Scene, random: &mut Random) -> Result<Outcome> {
    let writer = random.of(&scene.writers);
    let at = (1 + random.below(calls(scene, writer)?)).to_string();
    let fault = *random.of(&["ENOSPC", "EIO"]);
    let first = scene.run(&[writer.args, &[writer.out]].concat(), &[("TORTURE_AT", &at), ("TORTURE_DOES", fault)])?;
    after(scene, writer, Some(&first), &format!("{fault} at call {at}"))
}

/// Several processes are given the same command at once; now and then on a file system without locks.
pub fn race(scene: &Scene, random: &mut Random) -> Result<Outcome> {
    let writer = random.of(&scene.writers);
    scene.clear("out");
    let env: &[(&str, &str)] = if scene.has_shim() && random.below(4) == 0 { &[("TORTURE_LOCKS", "none")] } else { &[] };
    let (count, args) = (2 + random.below(5), [writer.args, &[writer.out]].concat());
    let ended: Vec<Result<Ended>> = std::thread::scope(|scope| {
        let begin = || scope.spawn(|| scene.run(&args, env).map_err(|error| error.to_string()));
        let threads: Vec<_> = (0..count).map(|_| begin()).collect();
        threads.into_iter().map(|thread| Ok(thread.join().map_err(|_| "a thread ended early")??)).collect()
    });
    let ended = ended.into_iter().collect::<Result<Vec<_>>>()?;
    if let Some(panic) = ended.iter().find(|ended| ended.panicked() || ended.code.is_none()) {
        return Ok(Panic(format!("{} of {count} at once: {}", writer.name, last(panic))));
    }
    let is_right = writer.result_of(&scene.folder.join("out")) == writer.expected;
    Ok(match (ended.iter().any(|ended| ended.code == Some(0)), is_right) {
        (true, true) => Survived,
        (true, false) => Wrong(format!("{}, {count} at once", writer.name)),
        (false, _) => Stuck(format!("{}, {count} at once: {}", writer.name, last(&ended[0]))),
    })
}

/// A folder that is read again, the command that reads it, and what that command's result is.
const READERS: [(&str, &[&str]); 7] = [
    ("cut", &["train", "run.toml", "--device", "cpu", "--resume", "--out", "flipped"]),
    ("data", &["train", "run.toml", "--device", "cpu", "--out", "out"]),
    ("run", &["eval", "flipped", "--device", "cpu", "--json"]),
    ("done-export", &["eval", "flipped", "--data", "data", "--device", "cpu", "--json"]),
    ("done-study", &["study", "study.toml", "--device", "cpu", "--out", "flipped", "--json"]),
    ("done-finetune", &FINETUNE_AGAIN),
    // The teacher and what it said are there, and the student is not.
    ("cut-transfer", &["train", "transfer.toml", "--device", "cpu", "--out", "flipped/run"]),
];

const FINETUNE_AGAIN: [&str; 18] = {
    let mut args = super::scene::FINETUNE_JSON;
    args[args.len() - 2] = "flipped";
    args
};

/// Whether each of these commands reads its folder while nothing is wrong with it: one that fails anyway would survive
/// everything.
pub fn must_read_whole(scene: &Scene) -> Result<()> {
    for (kind, args) in READERS.iter().filter(|(kind, _)| *kind != "data") {
        scene.clear("flipped");
        copy(&scene.folder.join(kind), &scene.folder.join("flipped"))?;
        scene.must(args)?;
    }
    ["flipped", "out"].iter().for_each(|name| scene.clear(name));
    Ok(())
}

/// A bit is flipped in a file of a folder that is read again.
pub fn flip(scene: &Scene, random: &mut Random) -> Result<Outcome> {
    let (kind, args) = *random.of(&READERS);
    ["flipped", "out"].iter().for_each(|name| scene.clear(name));
    let (from, flipped) = (scene.folder.join(kind), scene.folder.join("flipped"));
    copy(&from, &flipped)?;
    let all: Vec<_> = files(&flipped).into_iter().filter(|path| fs::metadata(path).is_ok_and(|file| file.len() > 0)).collect();
    let path = random.of(&all);
    let mut bytes = fs::read(path)?;
    let (at, bit) = (random.below(bytes.len()), random.below(8));
    bytes[at] ^= 1 << bit;
    fs::write(path, &bytes)?;
    let how = format!("{kind}, byte {at} bit {bit} of {}", path.strip_prefix(&flipped)?.display());
    // Shards are named by the run file.
    let ended = match kind {
        "data" => {
            let moved = fs::read_to_string(scene.folder.join("run.toml"))?.replace("\"data\"", "\"flipped\"");
            fs::write(scene.folder.join("flipped.toml"), moved)?;
            scene.run(&["train", "flipped.toml", "--device", "cpu", "--out", "out"], &[])?
        }
        _ => scene.run(args, &[])?,
    };
    if ended.panicked() || ended.code.is_none() {
        return Ok(Panic(format!("{how}: {}", last(&ended))));
    }
    if ended.code != Some(0) {
        return Ok(Survived);
    }
    let result_is = |name: &str, folder: &str| {
        let writer = scene.writers.iter().find(|writer| writer.name == name).ok_or("there is no such writer")?;
        Ok::<_, Box<dyn std::error::Error>>(writer.result_of(&scene.folder.join(folder)) == writer.expected)
    };
    let is_right = match kind {
        "data" => result_is("train", "out")?,
        "cut" => result_is("train", "flipped")?,
        "cut-transfer" => result_is("transfer", "flipped")?,
        _ => {
            scene.clear("flipped");
            copy(&from, &flipped)?;
            same_numbers(&ended.out, &scene.run(args, &[])?.out)
        }
    };
    Ok(if is_right { Survived } else { Wrong(how) })
}

/// Whether two results in JSON are the same, but for what is measured by the clock.
fn same_numbers(a: &[u8], b: &[u8]) -> bool {
    let lines = |bytes: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.lines().filter(|line| !line.contains("seconds") && !line.contains("per_s")).map(str::to_owned).collect()
    };
    lines(a) == lines(b)
}

/// A file that people give the command, and what reads it: words without blanks inside.
const INPUTS: [(&str, &str); 17] = [
    ("run.toml", "plan input --no-time"),
    ("transfer.toml", "plan input --no-time"),
    ("study.toml", "study input --emit jobs --out out"),
    ("study.toml", "study input --cell nobody#1 --device cpu --out out"),
    ("words/vocab.txt", "tokenizer show input the"),
    ("words/tokenizer.json", "tokenizer show input the"),
    ("data/manifest.json", "data show damaged"),
    ("run/model/config.json", "import damaged"),
    ("run/model/model.safetensors", "import damaged"),
    ("text.txt", "data build input --tokenizer words --out out"),
    ("labelled.csv", "data build input --tokenizer words --out out"),
    (
        "labelled.csv",
        "finetune run --train input --dev labelled.csv --text text --label label --epochs 0.5 --seeds 1 --length 16 --device cpu",
    ),
    ("labelled.tsv", "data build input --tokenizer words --out out"),
    ("labelled.jsonl", "data build input --tokenizer words --out out"),
    (
        "labelled.jsonl",
        "finetune run --train labelled.csv --dev input --text text --label label --epochs 0.5 --seeds 1 --length 16 --device cpu",
    ),
    ("labelled.json", "data build input --tokenizer words --out out"),
    ("done-study/cells.jsonl", "study study.toml --cells input --cell nobody#1 --device cpu --out out"),
];

/// An input file is damaged: bytes changed, cut, repeated, numbers made huge. The command has 4 GiB.
pub fn damage_input(scene: &Scene, random: &mut Random) -> Result<Outcome> {
    let (file, args) = *random.of(&INPUTS);
    ["damaged", "out"].iter().for_each(|name| scene.clear(name));
    let source = scene.folder.join(file);
    let mut bytes = fs::read(&source)?;
    for _ in 0..1 + random.below(4) {
        damage(&mut bytes, random);
    }
    let ending = source.extension().unwrap_or_default().to_string_lossy().into_owned();
    let args: Vec<&str> = args.split_whitespace().collect();
    let target = match args.contains(&"damaged") {
        true => {
            let folder = source.parent().ok_or("a file lies in a folder")?;
            copy(folder, &scene.folder.join("damaged"))?;
            scene.folder.join("damaged").join(source.file_name().ok_or("a file has a name")?)
        }
        false => scene.folder.join(format!("input.{ending}")),
    };
    fs::write(&target, &bytes)?;
    let named = format!("input.{ending}");
    let args = args.iter().map(|arg| if *arg == "input" { named.as_str() } else { arg });
    // A limit of memory: what allocates by a number in a file meets it.
    let mut command = Command::new("sh");
    let upstill = scene.started(&[], &[]).get_program().to_owned();
    command.args(["-c", "ulimit -v 4194304; exec \"$0\" \"$@\""]).arg(upstill).args(args).current_dir(&scene.folder);
    let ended = scene.wait(command.stdin(Stdio::null()))?;
    let ends_well = !ended.panicked() && matches!(ended.code, Some(0..=2));
    if ends_well {
        return Ok(Survived);
    }
    let kept = std::env::temp_dir().join(format!("upstill-torture-kept-{}.{ending}", random.next()));
    fs::write(&kept, &bytes)?;
    Ok(Panic(format!("{file}, kept as {}: {:?}: {}", kept.display(), ended.code, last(&ended))))
}
