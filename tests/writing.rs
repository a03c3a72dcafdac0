//! What commands write: several processes at once, kills, folders that vanish or can't be moved, odd names, disks that
//! fail.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use upstill::text::pocket::Pocket;
use upstill::tokens::{BuildOptions, Shards, Tokenizer, Watch, build};

use crate::common::{run_file, wait_for};

/// A folder with a corpus and a tokenizer, and the command in it.
struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    fn new(documents: u64) -> Self {
        let scratch = Self { dir: tempfile::tempdir().unwrap() };
        let pocket = Pocket::new(1);
        let text: String = (0..documents).map(|i| pocket.document(i).sentences.join(" ") + "\n\n").collect();
        fs::write(scratch.at("corpus.txt"), text).unwrap();
        scratch.succeed(["tokenizer", "train", "corpus.txt", "--out", "words", "--vocab", "400"]);
        scratch
    }

    fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    fn upstill(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_upstill"));
        command.args(args).current_dir(self.dir.path()).env("UPSTILL_DEVICE", "cpu");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn succeed(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) {
        let output = self.upstill(args).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }

    fn build(&self, out: impl AsRef<OsStr>, more: &[&str]) -> Command {
        let mut command = self.upstill(["data", "build", "corpus.txt", "--tokenizer", "words", "--keep-one-of", "1", "--out"]);
        command.arg(out).args(more);
        command
    }

    /// What lies in the folder, hidden names too.
    fn names(&self) -> BTreeSet<OsString> {
        names(self.dir.path())
    }

    /// A run of a few steps, whose model can be exported.
    fn trained(&self) {
        fs::write(self.at("run.toml"), run_file(2, 2)).unwrap();
        self.succeed(["train", "run.toml", "--out", "run"]);
    }
}

fn names(folder: &Path) -> BTreeSet<OsString> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Starts all at once, and waits for them.
fn together(commands: Vec<Command>) -> Vec<Output> {
    let running: Vec<Child> = commands.into_iter().map(|mut command| command.spawn().unwrap()).collect();
    running.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
}

/// One at least did it; the others were told why not.
fn one_at_least(outputs: &[Output], reasons: &[&str]) {
    assert!(outputs.iter().any(|output| output.status.success()), "{:?}", outputs.iter().map(said).collect::<Vec<_>>());
    for output in outputs.iter().filter(|output| !output.status.success()) {
        let said = said(output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(reasons.iter().any(|reason| said.contains(reason)), "{said}");
    }
}

const BUSY: &str = "is working in this folder";

#[test]
fn processes_that_write_one_folder_take_turns_or_are_refused() {
    let scratch = Scratch::new(400);
    scratch.trained();
    let before = scratch.names();
    for round in 0..3 {
        let outputs = together((0..4).map(|_| scratch.build("data", &[])).collect());
        one_at_least(&outputs, &[BUSY, "already holds data"]);
        assert_eq!(outputs.iter().filter(|output| output.status.success()).count(), 1, "round {round}");
        let hash = Shards::open(&scratch.at("data")).unwrap().hash().to_owned();

        let outputs = together((0..4).map(|_| scratch.build("data", &["--force"])).collect());
        one_at_least(&outputs, &[BUSY]);
        assert_eq!(Shards::open(&scratch.at("data")).unwrap().hash(), hash);
        fs::remove_dir_all(scratch.at("data")).unwrap();

        let outputs = together((0..4).map(|_| scratch.upstill(["export", "run", "model"])).collect());
        one_at_least(&outputs, &[BUSY, "holds something"]);
        assert_eq!(outputs.iter().filter(|output| output.status.success()).count(), 1, "round {round}");
        scratch.succeed(["import", "model"]);
        fs::remove_dir_all(scratch.at("model")).unwrap();

        let train = ["tokenizer", "train", "corpus.txt", "--out", "own", "--vocab", "300"];
        let outputs = together((0..4).map(|_| scratch.upstill(train)).collect());
        one_at_least(&outputs, &[BUSY, "holds something"]);
        scratch.succeed(["tokenizer", "show", "own"]);
        fs::remove_dir_all(scratch.at("own")).unwrap();
        assert_eq!(scratch.names(), before, "nothing is left beside");
    }
}

#[test]
fn a_command_that_was_killed_anywhere_works_when_it_is_given_again() {
    let scratch = Scratch::new(1500);
    scratch.trained();
    let before = scratch.names();
    let started = Instant::now();
    assert!(scratch.build("data", &[]).status().unwrap().success());
    let whole = started.elapsed();
    let hash = Shards::open(&scratch.at("data")).unwrap().hash().to_owned();
    fs::remove_dir_all(scratch.at("data")).unwrap();
    let mut random = 0x9e37_79b9_u64;
    for round in 0..12 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // A little beyond the end, so that some kills hit the last moments.
        let after = whole.mul_f64(1.1 * (random >> 40) as f64 / (1 << 24) as f64);
        let export = || scratch.upstill(["export", "run", "model"]);
        let (mut command, out) = if round % 3 == 2 { (export(), "model") } else { (scratch.build("data", &[]), "data") };
        let mut child = command.spawn().unwrap();
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
        let again = command.output().unwrap();
        let said = said(&again);
        let was_done = said.contains("already holds data") || said.contains("holds something");
        assert!(again.status.success() || was_done, "killed after {after:?}: {said}");
        match out {
            "data" => assert_eq!(Shards::open(&scratch.at("data")).unwrap().hash(), hash),
            _ => scratch.succeed(["import", "model"]),
        }
        let leftovers: Vec<_> = scratch.names().difference(&before).filter(|name| *name != out).cloned().collect();
        // What was done before the kill may have left its last leftover, which the next command in the place takes
        // away.
        assert!(leftovers.is_empty() || was_done, "killed after {after:?}: {leftovers:?}");
        fs::remove_dir_all(scratch.at(out)).unwrap();
    }
    scratch.succeed(["export", "run", "last"]);
    assert_eq!(scratch.names().difference(&before).collect::<Vec<_>>(), ["last"]);
}

#[test]
fn the_folder_that_a_process_stands_in_gets_its_content_and_stays_itself() {
    let scratch = Scratch::new(60);
    fs::create_dir(scratch.at("here")).unwrap();
    let build = |more: &[&str]| {
        let mut command = scratch.build(".", more);
        command.current_dir(scratch.at("here"));
        let args = ["data", "build", "../corpus.txt", "--tokenizer", "../words", "--out", "."];
        let mut own = scratch.upstill(args);
        own.args(more).current_dir(scratch.at("here")).output().unwrap()
    };
    let file = fs::File::open(scratch.at("here")).unwrap();
    assert!(build(&["--keep-one-of", "1"]).status.success());
    let first = Shards::open(&scratch.at("here")).unwrap().hash().to_owned();
    let again = build(&["--force", "--seed", "5"]);
    assert!(again.status.success(), "{}", said(&again));
    assert_ne!(Shards::open(&scratch.at("here")).unwrap().hash(), first);
    assert!(names(&scratch.at("here")).iter().all(|name| !name.to_string_lossy().starts_with('.')));
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(file.metadata().unwrap().ino(), fs::metadata(scratch.at("here")).unwrap().ino());
    }
    drop(file);
}

#[test]
fn nothing_of_anybodys_is_deleted() {
    let scratch = Scratch::new(60);
    // Names that were once taken for our own.
    for name in ["data.old~", ".data.part", "data.part", ".upstill-mine", "model.v1", "model.old~"] {
        fs::create_dir(scratch.at(name)).unwrap();
        fs::write(scratch.at(name).join("thesis.tex"), "mine").unwrap();
    }
    fs::write(scratch.at(".report.html.part"), "mine").unwrap();
    let before = scratch.names();
    for more in [&[][..], &["--force"]] {
        assert!(scratch.build("data", more).status().unwrap().success());
    }
    scratch.trained();
    scratch.succeed(["export", "run", "model.v2"]);
    scratch.succeed(["report", "run"]);
    for name in ["data.old~", ".data.part", "data.part", ".upstill-mine", "model.v1", "model.old~"] {
        assert_eq!(fs::read_to_string(scratch.at(name).join("thesis.tex")).unwrap(), "mine", "{name}");
    }
    assert_eq!(fs::read_to_string(scratch.at(".report.html.part")).unwrap(), "mine");
    let new: Vec<_> = scratch.names().difference(&before).cloned().collect();
    assert_eq!(new, ["data", "model.v2", "report.html", "run", "run.toml"]);

    // A manifest.json of something else and a vocabulary are no data folder; nor is one that holds a folder more.
    fs::create_dir(scratch.at("extension")).unwrap();
    fs::write(scratch.at("extension/manifest.json"), "{\"manifest_version\": 3}").unwrap();
    fs::write(scratch.at("extension/vocab.txt"), "mine").unwrap();
    fs::create_dir(scratch.at("data/mine")).unwrap();
    for (out, count) in [("extension", 2), ("data", names(&scratch.at("data")).len())] {
        let refused = scratch.build(out, &["--force"]).output().unwrap();
        assert!(said(&refused).contains("something that is not upstill's data"), "{}", said(&refused));
        assert_eq!(names(&scratch.at(out)).len(), count);
    }
}

#[test]
fn a_run_whose_folder_vanishes_ends_with_an_error() {
    let scratch = Scratch::new(20);
    fs::write(scratch.at("run.toml"), run_file(2, 2)).unwrap();
    let many = ["--set", "train.steps=100000", "--set", "train.checkpoint_every=20", "--set", "train.evaluate_every=100000"];
    let mut command = scratch.upstill(["train", "run.toml", "--out", "run"]);
    let mut child = command.args(many).spawn().unwrap();
    wait_for("a checkpoint", || scratch.at("run/checkpoints/step-0000020/state.json").exists());
    // Files come while they are removed: until nothing is left.
    wait_for("the removal", || fs::remove_dir_all(scratch.at("run")).is_ok() || !scratch.at("run").exists());
    assert_eq!(ended(&mut child).code(), Some(2));
    let said = said(&child.wait_with_output().unwrap());
    assert!(said.contains("removed or replaced"), "{said}");
    assert!(!scratch.at("run").exists(), "it is not made anew");
}

/// How a process ended; one that doesn't is killed.
fn ended(child: &mut Child) -> ExitStatus {
    let from = Instant::now();
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status,
            None if from.elapsed() > Duration::from_secs(60) => {
                child.kill().unwrap();
                panic!("still running");
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[test]
fn a_second_process_in_a_run_is_told_whose_it_is() {
    let scratch = Scratch::new(20);
    fs::write(scratch.at("run.toml"), run_file(2, 2)).unwrap();
    let command = || {
        let mut command = scratch.upstill(["train", "run.toml", "--out", "run", "--resume", "--set", "train.steps=100000"]);
        command.args(["--set", "train.evaluate_every=100000", "--set", "train.checkpoint_every=100000"]);
        command
    };
    let mut first = command().spawn().unwrap();
    wait_for("the first step", || scratch.at("run/steps.jsonl").exists());
    let second = command().output().unwrap();
    assert_eq!(second.status.code(), Some(2));
    let told = format!("another process ({}) is working in this folder", first.id());
    assert!(said(&second).contains(&told), "{}", said(&second));
    first.kill().unwrap();
    first.wait().unwrap();
    // The lock ended with the process.
    let mut third = command().spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(third.try_wait().unwrap().is_none());
    third.kill().unwrap();
    third.wait().unwrap();
}

#[test]
fn transfer_runs_that_start_together_come_to_one_result() {
    let scratch = Scratch::new(20);
    scratch.trained();
    let text = "method = \"transfer\"\nseed = 1\n[model]\nwords = 8\nhidden = 8\n[teacher]\nfrom = \"run\"\nlr = 1e-3\nepochs = 1.0\n\
        [data]\ntask = \"pocket-acceptability\"\nper_class = 20\nlength = 24\n[train]\nbatch = 16\nrounds = 1\nround_steps = 2\n";
    fs::write(scratch.at("transfer.toml"), text).unwrap();
    let train = |out: &str| scratch.upstill(["train", "transfer.toml", "--json", "--out", out]);
    let accuracy = |output: &Output| -> f64 {
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        summary["accuracy"].as_f64().unwrap()
    };
    let alone = train("alone").output().unwrap();
    assert!(alone.status.success(), "{}", said(&alone));
    fs::remove_dir_all(scratch.at("teachers-of-transfer")).unwrap();
    // In one folder, and in several that share a teacher.
    let outputs = together(["a", "a", "a", "b"].map(train).into());
    one_at_least(&outputs, &[BUSY]);
    assert!(outputs[3].status.success(), "{}", said(&outputs[3]));
    for output in outputs.iter().filter(|output| output.status.success()) {
        assert_eq!(accuracy(output), accuracy(&alone));
    }
    assert_eq!(accuracy(&train("a").output().unwrap()), accuracy(&alone));
}

/// Of each process: exit 0.
fn all_succeed(outputs: &[Output]) {
    outputs.iter().for_each(|output| assert!(output.status.success(), "{}", said(output)));
}

#[test]
fn any_number_of_processes_share_a_study_and_run_each_cell_once() {
    let scratch = Scratch::new(20);
    let study = || scratch.upstill(["study", "--size", "tiny", "--out", "study", "--jobs", "1"]);
    for _ in 0..2 {
        all_succeed(&together((0..3).map(|_| study()).collect()));
        let cells = names(&scratch.at("study/cells"));
        assert!(cells.len() >= 3, "{cells:?}");
        for cell in &cells {
            let text = fs::read_to_string(scratch.at("study/cells").join(cell).join("run.json")).unwrap();
            let info: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(info["sessions"].as_array().unwrap().len(), 1, "{text}");
        }
        let lines = fs::read_to_string(scratch.at("study/cells.jsonl")).unwrap();
        assert_eq!(lines.lines().count(), cells.len());
        let hidden = names(&scratch.at("study")).into_iter().filter(|name| name.to_string_lossy().starts_with('.'));
        assert_eq!(hidden.count(), 0);
    }
}

#[test]
fn any_number_of_processes_share_a_transfer_study() {
    let scratch = Scratch::new(20);
    let study = || scratch.upstill(["study", "transfer", "--size", "tiny", "--out", "study", "--jobs", "1", "--json"]);
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let outputs = together((0..3).map(|_| study()).collect());
        all_succeed(&outputs);
        for output in outputs {
            let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            seen.insert(found["experiments"].to_string());
        }
    }
    // Times are among the results: they are the same because each cell was run once.
    assert_eq!(seen.len(), 1);
}

#[test]
fn a_data_folder_that_vanishes_while_it_is_built_is_an_error() {
    let scratch = Scratch::new(60);
    let tokenizer = Tokenizer::load(&scratch.at("words")).unwrap();
    let before = scratch.names();
    let watch = Watch { threads: 1, stop: &|| false, progress: &|_| drop(fs::remove_dir_all(scratch.at("data"))) };
    let input = [scratch.at("corpus.txt").display().to_string()];
    let built = build(&input, &scratch.at("data"), false, &tokenizer, &BuildOptions::default(), &watch);
    assert!(built.unwrap_err().to_string().contains("removed or replaced"));
    assert_eq!(scratch.names(), before);
}

#[test]
fn what_lies_in_the_output_is_no_input() {
    let scratch = Scratch::new(60);
    fs::create_dir(scratch.at("text")).unwrap();
    fs::rename(scratch.at("corpus.txt"), scratch.at("text/corpus.txt")).unwrap();
    let build = |more: &[&str]| {
        let args = ["data", "build", "text", "--tokenizer", "words", "--keep-one-of", "1", "--out", "text/data"];
        let output = scratch.upstill([&args, more].concat()).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        (Shards::open(&scratch.at("text/data")).unwrap().hash().to_owned(), said(&output))
    };
    let (first, _) = build(&[]);
    let (again, said) = build(&["--force"]);
    assert_eq!(again, first, "the vocabulary there is no text");
    assert!(said.contains("1 files of the input lie in"), "{said}");
}

#[cfg(unix)]
#[test]
fn names_that_are_no_text_are_names() {
    use std::os::unix::ffi::OsStringExt;
    let scratch = Scratch::new(60);
    scratch.trained();
    let name = |start: &str| OsString::from_vec([start.as_bytes(), b"\xff 'x'\n\"#%s"].concat());
    let build = scratch.build(name("data"), &["--json"]).output().unwrap();
    assert!(build.status.success(), "{}", said(&build));
    Shards::open(&scratch.at(name("data"))).unwrap();
    let with = |args: &[&str], out: OsString| {
        let output = scratch.upstill(args).arg(out).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", said(&output));
    };
    with(&["tokenizer", "train", "corpus.txt", "--json", "--out"], name("words"));
    with(&["export", "run"], name("model"));
    with(&["import", "--json"], name("model"));
    with(&["import", "run"], name("imported"));
    with(&["train", "run.toml", "--json", "--out"], name("run"));
    with(&["report", "run", "--json", "--out"], name("report"));
    for made in ["data", "words", "model", "imported", "run", "report"] {
        assert!(scratch.at(name(made)).exists(), "{made}");
    }
    assert!(scratch.names().iter().all(|name| !name.as_encoded_bytes().starts_with(b".")));
    // Plans and commands name a study's folder, and are text.
    for args in [&["study", "--size", "tiny", "--emit", "jobs", "--out"][..], &["study", "transfer", "--size", "tiny", "--out"]] {
        let refused = scratch.upstill(args).arg(name("study")).output().unwrap();
        assert!(refused.status.code() == Some(2) && said(&refused).contains("is not UTF-8"), "{}", said(&refused));
    }
    assert!(!scratch.at(name("study")).exists());
}

#[cfg(unix)]
#[test]
fn a_disk_that_takes_no_more_is_named_and_nothing_half_made_stays() {
    let scratch = Scratch::new(400);
    scratch.trained();
    let before = scratch.names();
    // The system refuses what goes beyond 8 KiB of a file, as a full disk refuses it.
    let limited = |args: &[&str]| {
        let program = env!("CARGO_BIN_EXE_upstill");
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"", program]).args(args).env("UPSTILL_DEVICE", "cpu");
        command.current_dir(scratch.dir.path()).output().unwrap()
    };
    for (args, unwritten) in [
        (
            &["data", "build", "corpus.txt", "--tokenizer", "words", "--keep-one-of", "1", "--out", "data"][..],
            "data/train-00000.tok",
        ),
        (&["export", "run", "model"], "model/model.safetensors"),
        (&["report", "run", "--out", "report.html"], "report.html"),
    ] {
        let output = limited(args);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("could not write {unwritten}: ")), "{said}");
        assert_eq!(scratch.names(), before, "{args:?}");
    }
    let trained = limited(&["train", "run.toml", "--out", "other"]);
    assert_eq!(trained.status.code(), Some(2));
    assert!(said(&trained).contains("could not write other/checkpoints/step-0000002/"), "{}", said(&trained));
    assert_eq!(names(&scratch.at("other/checkpoints")).len(), 0);
    // What can't be written is known before the work.
    fs::write(scratch.at("a file"), "mine").unwrap();
    let refused = scratch.build("a file/data", &[]).output().unwrap();
    assert!(said(&refused).contains("could not create a file/data"), "{}", said(&refused));
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs a system that lets a test mount a folder (`unshare -rm true`): cargo test -- --ignored on_this_system"]
fn on_this_system_a_mounted_folder_gets_its_content_in_place_and_a_full_one_is_named() {
    let scratch = Scratch::new(400);
    fs::create_dir(scratch.at("mounted")).unwrap();
    let script = |size: &str, lines: &str| {
        let text = format!("set -e\nmount -t tmpfs -o size={size} none mounted\nmkdir mounted/lost+found\n{lines}");
        let command = Command::new("unshare").args(["-rm", "sh", "-c", &text]).current_dir(scratch.dir.path()).output();
        command.unwrap()
    };
    let mounts = script("1m", "");
    assert!(mounts.status.success(), "this system lets no test mount a folder: {}", said(&mounts));
    let program = env!("CARGO_BIN_EXE_upstill");
    let build = format!("{program} data build corpus.txt --tokenizer words --out mounted");
    let whole = script("8m", &format!("{build}\n{build} --force --seed 3\n{program} data show mounted\nls -A mounted"));
    assert!(whole.status.success(), "{}", said(&whole));
    let listed = String::from_utf8_lossy(&whole.stdout).into_owned();
    assert!(listed.contains("lost+found") && listed.contains("manifest.json") && !listed.contains(".upstill"), "{listed}");
    let full = script("16k", &format!("{build} || test $? = 2\nls -A mounted"));
    assert!(full.status.success(), "{}", said(&full));
    assert!(said(&full).contains("could not write mounted/") && said(&full).contains("the disk is full"), "{}", said(&full));
    assert_eq!(String::from_utf8_lossy(&full.stdout), "lost+found\n");
    let train = format!("{program} train run.toml --out mounted");
    fs::write(scratch.at("run.toml"), run_file(2, 2)).unwrap();
    for command in [&build, &train] {
        let refused = script("1m", &format!("mount -o remount,ro mounted\n{command} || test $? = 2"));
        assert!(refused.status.success(), "{}", said(&refused));
        assert!(said(&refused).contains("error: could not write in mounted: Read-only file system"), "{}", said(&refused));
    }
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs to run a command as another user (`setpriv`, as root): cargo test -- --ignored on_this_system"]
fn on_this_system_a_folder_that_one_may_write_in_but_not_beside_gets_its_content_in_place() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new(60);
    let nobody = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_upstill")]).args(args);
        command.current_dir(scratch.dir.path()).env("UPSTILL_DEVICE", "cpu").output()
    };
    fs::set_permissions(scratch.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(nobody(&["--version"]).unwrap().status.success(), "this system lets no test run a command as another user");
    let build = ["data", "build", "corpus.txt", "--tokenizer", "words", "--out"];
    let refused = nobody(&[&build[..], &["data"]].concat()).unwrap();
    assert!(said(&refused).starts_with("error: could not create data: Permission denied"), "{}", said(&refused));
    for name in ["open", "closed"] {
        fs::create_dir(scratch.at(name)).unwrap();
    }
    fs::set_permissions(scratch.at("open"), fs::Permissions::from_mode(0o777)).unwrap();
    let refused = nobody(&[&build[..], &["closed"]].concat()).unwrap();
    assert!(said(&refused).starts_with("error: could not write in closed: Permission denied"), "{}", said(&refused));
    for more in [&["open"][..], &["open", "--force", "--seed", "3"]] {
        let output = nobody(&[&build[..], more].concat()).unwrap();
        assert!(output.status.success(), "{}", said(&output));
        Shards::open(&scratch.at("open")).unwrap();
    }
    assert!(names(&scratch.at("open")).iter().all(|name| !name.to_string_lossy().starts_with('.')));
}

#[cfg(unix)]
#[test]
fn a_report_can_go_into_a_pipe() {
    let scratch = Scratch::new(20);
    scratch.trained();
    assert!(Command::new("mkfifo").arg(scratch.at("pipe")).status().unwrap().success());
    let path = scratch.at("pipe");
    let reader = std::thread::spawn(move || fs::read_to_string(path).unwrap());
    scratch.succeed(["report", "run", "--out", "pipe"]);
    assert!(reader.join().unwrap().contains("</html>"));
    use std::os::unix::fs::FileTypeExt;
    assert!(fs::metadata(scratch.at("pipe")).unwrap().file_type().is_fifo(), "it is still a pipe");
}
