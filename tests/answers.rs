//! A teacher's answers, written once and read by runs of any shape that ask the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::{TempDir, tempdir};
use upstill::answers::{Cache, Reader};
use upstill::batch::{BatchOptions, Batches, Masking, Split};
use upstill::config::{AnswersKind, Plan, Rows};
use upstill::device::Device;
use upstill::log::Console;
use upstill::tokens::Shards;
use upstill::train::{Asking, Taught, TeachOptions};

use crate::common::{plan, run, run_on, shards, steps, weights};

/// A small teacher, trained, and what else a test needs.
pub(crate) struct Bench {
    dir: TempDir,
    pub shards: Shards,
}

impl Bench {
    pub fn new() -> Self {
        let bench = Self { dir: tempdir().unwrap(), shards: shards() };
        run(&plan(&bench.shards, &["preset=standalone", "model.layers=1"]), &bench.shards, &bench.path("teacher"));
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The plan of a student whose teacher is in this folder.
    pub fn plan(&self, teacher: &str, set: &[&str]) -> Plan {
        let from = format!("teacher.from={}", self.path(teacher).display());
        plan(&self.shards, &[&["preset=dwt-normal", &from], set].concat())
    }

    /// The folder of a finished student that was evaluated at each step.
    pub fn trained(&self, name: &str, set: &[&str]) -> PathBuf {
        run(&self.plan("teacher", &[&["train.evaluate_every=1"], set].concat()), &self.shards, &self.path(name));
        self.path(name)
    }

    /// Why a plan with this teacher can't be, with the test's folder left out.
    pub fn refusal(&self, teacher: &str, set: &[&str]) -> String {
        let from = format!("teacher.from={}", self.path(teacher).display());
        let mut file = upstill::config::RunFile::parse(crate::common::BASE, "the test").unwrap();
        [&["preset=dwt-normal", &from], set].concat().into_iter().for_each(|assignment| file.set(assignment));
        self.without_place(&upstill::plan_on(&file, &self.shards).unwrap_err().to_string())
    }

    fn without_place(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.dir.path().display()), "")
    }

    fn teach_until(
        &self,
        cache: &str,
        (kind, count): (AnswersKind, usize),
        set: &[&str],
        stop: &(dyn Fn() -> bool + Sync),
    ) -> upstill::Result<Taught> {
        let (plan, console, device) = (self.plan("teacher", set), Console::silent(), Device::cpu("test"));
        let out = self.path(cache);
        let options = TeachOptions { out: &out, kind, count, steps: None, console: &console, device: &device, stop };
        Asking::new(&plan, &self.shards, &options)?.run()
    }

    pub fn teach(&self, cache: &str, kept: (AnswersKind, usize), set: &[&str]) -> Taught {
        self.teach_until(cache, kept, set, &|| false).unwrap()
    }

    pub fn vocabulary(&self) -> usize {
        self.shards.tokenizer().vocab_size()
    }
}

/// Held-out losses and soft losses of two runs, off by at most so much.
#[track_caller]
pub(crate) fn near(found: &Path, wanted: &Path, most: f64) {
    let (found, wanted) = (steps(found), steps(wanted));
    assert_eq!(found.len(), wanted.len());
    for (a, b) in found.iter().zip(&wanted) {
        for (x, y) in [(a.loss_soft, b.loss_soft), (a.held_out_loss, b.held_out_loss), (Some(a.loss_hard), Some(b.loss_hard))] {
            let (Some(x), Some(y)) = (x, y) else { panic!("step {}: {x:?} and {y:?}", a.step) };
            assert!((x - y).abs() <= most, "step {}: {x} and {y}", a.step);
        }
    }
}

#[test]
fn answers_of_all_tokens_are_the_teacher_itself_but_for_16_bits() {
    let bench = Bench::new();
    let set = ["train.evaluate_every=1"];
    let (live, cached) = (bench.path("live"), bench.path("cached"));
    run(&bench.plan("teacher", &set), &bench.shards, &live);
    let taught = bench.teach("whole", (AnswersKind::TopK, bench.vocabulary()), &set);
    assert_eq!((taught.found, taught.made), (0, 1)); // 160 rows in a block of 256
    // Without the teacher's folder: nothing of it is read.
    fs::rename(bench.path("teacher"), bench.path("gone")).unwrap();
    run(&bench.plan("whole", &set), &bench.shards, &cached);
    // f16 is off by 1 in 2,048 in each probability; 20 steps hand it on without growing it.
    near(&cached, &live, 1e-3);
}

#[test]
fn fewer_outcomes_and_draws_teach_too() {
    let bench = Bench::new();
    let loss = |teacher: &str| {
        let out = bench.path(&format!("run-{teacher}"));
        run(&bench.plan(teacher, &[]), &bench.shards, &out).held_out_loss.unwrap()
    };
    bench.teach("top", (AnswersKind::TopK, 8), &[]);
    bench.teach("drawn", (AnswersKind::Draws, 50), &[]);
    let live = loss("teacher");
    for cache in ["top", "drawn"] {
        // Steps this few and small move all of them about as far; a wrong sign or place would be seen.
        assert!((loss(cache) - live).abs() < 0.05, "{cache}: {} {live}", loss(cache));
    }
}

#[test]
fn one_cache_serves_any_batch_micro_batch_and_number_of_workers() {
    let bench = Bench::new();
    bench.teach("cache", (AnswersKind::Draws, 20), &[]);
    let every = "train.evaluate_every=1";
    for (batch, steps) in [("train.batch=8", "train.steps=20"), ("train.batch=16", "train.steps=10")] {
        let of = |name: &str, set: &[&str]| {
            let out = bench.path(&format!("{batch}-{name}"));
            run(&bench.plan("cache", &[&[every, batch, steps], set].concat()), &bench.shards, &out);
            out
        };
        let whole = of("whole", &[]);
        // Sums in another order.
        near(&of("parts", &["runtime.micro_batch=3"]), &whole, 1e-4);
        near(&of("workers", &["runtime.workers=2"]), &whole, 1e-4);
        of("weights", &["distill.hard=0.5", "distill.soft=4 -> 1 linear", "distill.tau_squared=true"]);
    }
    // A resumed run is the uninterrupted one, to the bit.
    let (plan, cut) = (bench.plan("cache", &[]), bench.path("cut"));
    run(&plan, &bench.shards, &bench.path("uncut"));
    run(&plan, &bench.shards, &cut);
    fs::remove_file(cut.join("summary.json")).unwrap();
    fs::remove_dir_all(cut.join("checkpoints/step-0000020")).unwrap();
    run_on(&Device::cpu("test"), &plan, &bench.shards, &cut, true).unwrap();
    assert_eq!(weights(&cut), weights(&bench.path("uncut")));
}

#[test]
fn a_run_that_asks_otherwise_is_told_everything_at_once() {
    let bench = Bench::new();
    bench.teach("seed-7", (AnswersKind::TopK, 4), &[]);
    let otherwise = ["seed=8", "data.rows=sentence", "data.length=16", "data.mask_rate=0.3", "distill.temperature=1"];
    insta::assert_snapshot!(bench.refusal("seed-7", &otherwise), @"
    the run file has 5 mistakes
     1. seed: the cache seed-7 has answers for 7, and the run asks for 8
          put the key back, or have the teacher answer this run: `upstill teach RUN.toml --out ANOTHER`
     2. data.rows: the cache seed-7 has answers for packed, and the run asks for sentence
          put the key back, or have the teacher answer this run: `upstill teach RUN.toml --out ANOTHER`
     3. data.length: the cache seed-7 has answers for 32, and the run asks for 16
          put the key back, or have the teacher answer this run: `upstill teach RUN.toml --out ANOTHER`
     4. data.mask_rate: the cache seed-7 has answers for 0.15, and the run asks for 0.3
          put the key back, or have the teacher answer this run: `upstill teach RUN.toml --out ANOTHER`
     5. distill.temperature: is 1, and the cache seed-7 was written at 2: what was cut off can't be softened again
          write temperature = 2, or have the teacher answer again at another into another folder
      in: the test
    help: mend these; `upstill plan` checks a run file without training
    ");
    let elsewhere = ["distill.positions=all", "distill.start=remap", "distill.temperature=4 -> 1 linear"];
    insta::assert_snapshot!(bench.refusal("seed-7", &elsewhere), @r#"
    the run file has 3 mistakes
     1. distill.positions: the cache seed-7 has answers at masked positions alone
          write positions = "masked", or name the teacher itself
     2. distill.start: a cache has a teacher's answers, and no layers to start from
          write start = "fresh"
     3. distill.temperature: is not the same throughout, and the cache seed-7 was written at 2: what was cut off can't be softened again
          write temperature = 2, or have the teacher answer again at another into another folder
      in: the test
    help: mend these; `upstill plan` checks a run file without training
    "#);
    insta::assert_snapshot!(bench.refusal("seed-7", &["train.steps=40"]), @"
    the run file has a mistake
      teacher.from: step 33 asks for rows 256 to 263 of the training split's sequence, and the cache seed-7 has rows 0 to 255
        `upstill teach RUN.toml --out seed-7 --steps 32..40`, RUN.toml naming the teacher itself, adds them
      in: the test
    help: mend these; `upstill plan` checks a run file without training
    ");
    let divergence = bench.refusal("seed-7", &["distill.divergence=reverse-kl"]);
    assert!(divergence.contains("reverse-kl needs whole distributions"), "{divergence}");
    // Runs that end before, whose batches are smaller, or that listen for a while alone, are answered.
    bench.plan("seed-7", &["train.steps=40", "train.batch=4"]);
    bench.plan("seed-7", &["train.steps=40", "distill.soft=1 until 50%, then 0"]);
}

#[test]
fn a_cache_of_something_else_is_left_as_it_is() {
    let bench = Bench::new();
    bench.teach("seed-7", (AnswersKind::TopK, 4), &[]);
    let before = fs::read(bench.path("seed-7/cache.json")).unwrap();
    let refused = |kept: (AnswersKind, usize), set: &[&str]| {
        bench.without_place(&bench.teach_until("seed-7", kept, set, &|| false).unwrap_err().to_string())
    };
    insta::assert_snapshot!(refused((AnswersKind::Draws, 50), &["seed=8", "distill.temperature=1"]), @"
    this folder has other answers; it was left as it is:
      seed: 7 there, 8 here
      kept: top-k 4 there, 50 draws here
      distill.temperature: 2 there, 1 here
      in: seed-7
    help: name another folder with --out, or ask as its answers were asked for
    ");
    insta::assert_snapshot!(refused((AnswersKind::TopK, bench.vocabulary() + 1), &[]), @"
    top-k 730 of a vocabulary of 729
    help: give a k from 1 up to the vocabulary; 12 or 50 is usual
    ");
    insta::assert_snapshot!(refused((AnswersKind::TopK, 4), &["distill.temperature=4 -> 1 linear"]), @"
    the run's temperature changes while it listens, and answers are kept at one
    help: --set distill.temperature=2, or another number
    ");
    insta::assert_snapshot!(refused((AnswersKind::TopK, 4), &["distill.soft=0"]), @"
    there is no step at which the run listens to its teacher
    help: raise distill.soft, or name the steps with --steps A..B
    ");
    run(&plan(&bench.shards, &["preset=standalone", "model.layers=1", "seed=9"]), &bench.shards, &bench.path("other"));
    fs::rename(bench.path("teacher"), bench.path("first")).unwrap();
    fs::rename(bench.path("other"), bench.path("teacher")).unwrap();
    let changed = refused((AnswersKind::TopK, 4), &[]);
    assert!(changed.contains("\n  the teacher: "), "{changed}");
    assert_eq!(fs::read(bench.path("seed-7/cache.json")).unwrap(), before);
    let elsewhere = bench.teach_until(".", (AnswersKind::TopK, 4), &[], &|| false).unwrap_err().to_string();
    assert!(elsewhere.contains("this folder holds something else"), "{elsewhere}");
}

/// Numbers below `below`, with no order to them.
fn any(state: &mut u64, below: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 33) as usize) % below
}

#[test]
fn a_thousand_flipped_or_cut_bytes_are_all_found() {
    let bench = Bench::new();
    bench.teach("cache", (AnswersKind::Draws, 20), &["train.steps=80"]);
    let folder = bench.path("cache");
    let files: Vec<PathBuf> = ["cache.json", "blocks/00000000.answers", "blocks/00000001.answers", "blocks/00000002.answers"]
        .map(|name| folder.join(name))
        .into();
    let is_whole = || {
        let Ok(cache) = Cache::open(&folder) else { return false };
        (0..3).all(|number| cache.read(number).is_ok())
    };
    assert!(is_whole());
    let mut state = 11;
    for trial in 0..1000 {
        let path = &files[any(&mut state, files.len())];
        let bytes = fs::read(path).unwrap();
        let at = any(&mut state, bytes.len());
        let mut other = bytes.clone();
        match trial % 3 {
            0 => other.truncate(at),
            1 => drop(other.remove(at)),
            _ => other[at] ^= 1 << any(&mut state, 8),
        }
        fs::write(path, &other).unwrap();
        assert!(!is_whole(), "{}: trial {trial} at byte {at} is not found", path.display());
        fs::write(path, &bytes).unwrap();
    }
    // A run that meets one in its way says so, and another `teach` mends it.
    let block = &files[1];
    let mut bytes = fs::read(block).unwrap();
    bytes[300] ^= 4;
    fs::write(block, &bytes).unwrap();
    let set = ["train.steps=80"];
    let error = run_on(&Device::cpu("test"), &bench.plan("cache", &set), &bench.shards, &bench.path("run"), false).unwrap_err();
    assert!(error.to_string().contains("the block with the answers for rows 0 to 255 is damaged"), "{error}");
    let mended = bench.teach("cache", (AnswersKind::Draws, 20), &set);
    assert_eq!((mended.found, mended.made, mended.mended), (2, 1, 1));
    assert!(is_whole());
}

#[test]
fn a_cache_is_added_to_and_gone_on_with_by_any_number_of_processes() {
    let bench = Bench::new();
    let kept = (AnswersKind::TopK, 4);
    let seen = AtomicUsize::new(0);
    // 1,280 rows are 5 blocks.
    let set = ["train.steps=160"];
    let error = bench.teach_until("cache", kept, &set, &|| seen.fetch_add(1, Ordering::SeqCst) == 2).unwrap_err();
    assert!(error.is_interrupted() && error.to_string().contains("stopped after 2 of 5 blocks"), "{error}");
    let before = fs::read(bench.path("cache/blocks/00000001.answers")).unwrap();
    let all: Vec<Taught> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| bench.teach("cache", kept, &set))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(all.iter().map(|taught| taught.made).sum::<u64>(), 3, "{all:?}");
    assert!(all.iter().all(|taught| taught.found + taught.made == 5), "{all:?}");
    assert_eq!(fs::read(bench.path("cache/blocks/00000001.answers")).unwrap(), before);
    // More steps are added; what is there stays. Whoever teaches comes to the same bytes.
    assert_eq!(bench.teach("cache", kept, &["train.steps=200"]).made, 2);
    bench.teach("again", kept, &["train.steps=200"]);
    for number in 0..7 {
        let of = |cache: &str| fs::read(bench.path(&format!("{cache}/blocks/{number:08}.answers"))).unwrap();
        assert_eq!(of("cache"), of("again"));
    }
    assert!(fs::read_dir(bench.path("cache/locks")).map_or(true, |mut files| files.next().is_none()), "no lock is left");
}

#[test]
fn rows_are_found_by_their_number_whatever_the_batch() {
    let bench = Bench::new();
    bench.teach("cache", (AnswersKind::TopK, 4), &[]);
    let reader = Reader::open(&bench.path("cache")).unwrap();
    let batches = |batch: usize| {
        let options = BatchOptions { layout: Rows::Packed, length: 32, batch, seed: 7, objective: Masking::default().into() };
        Batches::new(&bench.shards, Split::Train, options).unwrap()
    };
    let at = |batch: usize, step: u64| reader.at(&batches(batch).at(step)).unwrap();
    let (whole, halves) = (at(16, 3), [at(8, 6), at(8, 7)]);
    assert_eq!(whole.ids_nk, [&halves[0].ids_nk[..], &halves[1].ids_nk].concat());
    assert_eq!(whole.shares_nk, [&halves[0].shares_nk[..], &halves[1].shares_nk].concat());
    let part = reader.at(&batches(16).at(3).part(8..16)).unwrap();
    assert_eq!(part, halves[1]);
    // Rows with other masks are no rows of this cache.
    let other = Batches::new(
        &bench.shards,
        Split::Train,
        BatchOptions {
            layout: Rows::Packed,
            length: 32,
            batch: 8,
            seed: 7,
            objective: Masking { rate: 0.4, ..Masking::default() }.into(),
        },
    );
    let error = reader.at(&other.unwrap().at(0)).unwrap_err().to_string();
    assert!(error.contains("masked tokens, and the cache has answers for"), "{error}");
}

/// A program that answers every question with these bytes.
#[cfg(unix)]
fn program_that_says(folder: &Path, name: &str, tensors: &[(&str, Vec<usize>)]) -> String {
    use safetensors::tensor::{Dtype, TensorView};
    let zeros = vec![0; tensors.iter().map(|(_, shape)| 4 * shape.iter().product::<usize>()).max().unwrap_or(0)];
    let views = tensors.iter().map(|(name, shape)| {
        let bytes = &zeros[..4 * shape.iter().product::<usize>()];
        (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    let file = safetensors::serialize(views, None).unwrap();
    let answer = folder.join(name);
    fs::write(&answer, [&(file.len() as u64).to_le_bytes()[..], &file].concat()).unwrap();
    let read_one = "length=$(head -c 8 | od -An -tu8 | tr -d ' ') && [ -n \"$length\" ] && head -c $length > /dev/null";
    format!("while {read_one}; do cat '{}'; done", answer.display())
}

#[cfg(unix)]
#[test]
fn a_program_may_be_the_teacher() {
    let bench = Bench::new();
    let slots = 8 * bench.plan("teacher", &[]).data.slots;
    let of = |name: &str, command: &str, set: &[&str]| {
        let plan = plan(&bench.shards, &[&["preset=dwt-normal", &format!("teacher.command={command}")], set].concat());
        run_on(&Device::cpu("test"), &plan, &bench.shards, &bench.path(name), false)
    };
    // Logits of 0 are the uniform distribution.
    let uniform = program_that_says(bench.dir.path(), "zeros", &[("logits", vec![slots, bench.vocabulary()])]);
    of("program", &uniform, &[]).unwrap();
    run(&plan(&bench.shards, &["preset=dwt-normal", "teacher.from=uniform"]), &bench.shards, &bench.path("uniform"));
    assert_eq!(weights(&bench.path("program")), weights(&bench.path("uniform")));
    let why = |name: &str, command: &str, set: &[&str]| bench.without_place(&of(name, command, set).unwrap_err().to_string());
    let narrow = program_that_says(bench.dir.path(), "narrow", &[("logits", vec![slots, 7])]);
    let other = program_that_says(bench.dir.path(), "other", &[("scores", vec![slots, 7])]);
    let first_line = |text: String| text.lines().next().unwrap().to_owned();
    insta::assert_snapshot!(
        [
            first_line(why("narrow-run", &narrow, &[])),
            first_line(why("other-run", &other, &[])),
            first_line(why("dies", "head -c 100 > /dev/null; exit 3", &[])),
            first_line(why("no-program", "no-such-program-here 2> /dev/null", &[])),
            first_line(why("late", "sleep 20", &["teacher.timeout_s=0.2"])),
            first_line(why("babble", "printf 'hello, I am a teacher'; sleep 20", &[])),
        ]
        .join("\n"),
        @"
    the teacher's program answered wrongly: its `logits` are F32 [40, 7], not F32 [40, 729]
    the teacher's program answered wrongly: it has no tensor `logits`
    the teacher's program ended (exit status: 3) while it was asked
    the teacher's program ended (exit status: 127) while it was asked
    the teacher's program did not answer within 0.2 s
    the teacher's program can't be heard: an answer begins with its length, and 5269260421095515496 bytes are none
    "
    );
}

const STUDY: &str = r#"title = "shared answers"
seeds = [1, 2]
answers = "top-k 8"
base = """
[model]
layers = 2
hidden = 16
heads = 2
max_positions = 32
dropout = 0.0
[data]
shards = "pocket"
rows = "packed"
length = 32
[train]
steps = 8
batch = 4
evaluate_every = 4
evaluate_rows = 8
"""
[[teachers]]
name = "small"
set = ["preset=standalone", "model.layers=1"]
[[arms]]
name = "alone"
set = ["preset=standalone"]
[[arms]]
name = "soft 1"
teacher = "small"
set = ["preset=dwt-normal"]
[[arms]]
name = "soft 4"
teacher = "small"
set = ["preset=dwt-strong"]
[[arms]]
name = "in memory"
teacher = "small"
answers = "none"
set = ["preset=dwt-strong"]
[[arms]]
name = "everywhere"
teacher = "small"
set = ["preset=dwt-strong", "distill.positions=all"]
"#;

#[test]
fn all_arms_of_a_seed_share_a_studys_answers() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("s.toml"), STUDY).unwrap();
    let study = || {
        let mut command = crate::common::program();
        let args = ["study", "s.toml", "--out", "out", "--jobs", "2"];
        let output = command.args(args).current_dir(dir.path()).env("UPSTILL_DEVICE", "cpu").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    };
    let said = study();
    // Two seeds, a block each; the second arm of each seed finds it.
    assert!(said.contains("teachers' answers: 2 blocks ("), "{said}");
    assert!(said.contains("and 2 times one was there already"), "{said}");
    let caches: Vec<PathBuf> = fs::read_dir(dir.path().join("out/answers")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(caches.len(), 2);
    let text = fs::read_to_string(dir.path().join("out/cells.jsonl")).unwrap();
    let reads = |arm: &str| {
        let of = |line: &&str| line.contains(&format!("\"arm\":\"{arm}\""));
        text.lines().filter(of).map(|line| line.contains("top-k 8 at 2 of cell ")).collect::<Vec<_>>()
    };
    assert_eq!([reads("soft 1"), reads("soft 4")], [[true; 2]; 2]);
    assert_eq!([reads("in memory"), reads("everywhere"), reads("alone")], [[false; 2]; 3]);
    // What is there is found, and nobody is asked again.
    assert!(!study().contains("teachers' answers"));
}
