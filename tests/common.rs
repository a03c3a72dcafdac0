//! What several tests share: a small corpus, plans over it, and a place to run them.

use std::path::Path;
use std::process::Command;

use upstill::config::{Plan, RunFile};
use upstill::device::Device;
use upstill::log::{Console, StepRecord, Summary, read_steps};
use upstill::model::{ModelFolder, Weights};
use upstill::text::pocket::{Pocket, words};
use upstill::tokens::{Shards, Tokenizer};
use upstill::train::{RunOptions, plan_on, train_run};

/// A little of the pocket language: 60 documents to train on, 12 held out.
pub fn shards() -> Shards {
    let pocket = Pocket::new(1);
    let tokenizer = Tokenizer::train(words().into_iter().map(str::to_owned), 1024, 1).unwrap();
    let encode = |range: std::ops::Range<u64>| {
        range.flat_map(|i| pocket.document(i).sentences).map(|sentence| tokenizer.encode(&sentence).unwrap()).collect()
    };
    let (train, held_out) = (encode(0..60), encode(60..72));
    Shards::from_sentences(tokenizer, train, held_out)
}

/// Small enough for a software GPU, large enough to learn.
pub const BASE: &str = r#"
seed = 7
[model]
layers = 2
hidden = 32
heads = 2
max_positions = 32
dropout = 0.0
[data]
shards = "in memory"
rows = "packed"
length = 32
[train]
steps = 20
batch = 8
lr = "0 -> 2e-3 over 10%, then -> 0 linear"
evaluate_every = 10
evaluate_rows = 16
checkpoint_every = 10
"#;

/// A run file of a small model of the pocket language: so many steps, and so many between evaluations and checkpoints.
pub fn run_file(steps: u32, every: u32) -> String {
    format!(
        r#"
preset = "standalone"
seed = 1
[model]
layers = 1
hidden = 32
heads = 2
max_positions = 32
dropout = 0.0
[data]
shards = "pocket"
rows = "packed"
length = 32
[train]
steps = {steps}
batch = 4
evaluate_every = {every}
evaluate_rows = 8
checkpoint_every = {every}
"#
    )
}

/// The small plan with some keys set.
pub fn plan(shards: &Shards, set: &[&str]) -> Plan {
    let mut file = RunFile::parse(BASE, "the test").unwrap();
    set.iter().for_each(|assignment| file.set(assignment));
    plan_on(&file, shards).unwrap()
}

/// Runs a plan in a folder on a device.
pub fn run_on(device: &Device, plan: &Plan, shards: &Shards, dir: &Path, resume: bool) -> upstill::Result<Summary> {
    let console = Console::silent();
    train_run(plan, shards, &RunOptions { dir, resume, name: "test", console: &console, device })
}

/// Runs a plan in a folder on the CPU.
pub fn run(plan: &Plan, shards: &Shards, dir: &Path) -> Summary {
    run_on(&Device::cpu("test"), plan, shards, dir, false).unwrap()
}

/// The steps of a run, with what is measured and not computed left out.
pub fn steps(dir: &Path) -> Vec<StepRecord> {
    let records = read_steps(&dir.join("steps.jsonl")).unwrap();
    records.into_iter().map(|record| StepRecord { tokens_per_s: 0.0, mfu: None, ..record }).collect()
}

/// The final weights of a run.
pub fn weights(dir: &Path) -> Weights {
    ModelFolder::open(dir).unwrap().weights().unwrap()
}

/// The GPU of tests that are ignored unless asked for: `UPSTILL_TEST_GPU=software` names one that the CPU imitates
/// (Lavapipe), `=cuda` one through CUDA, which tests/cuda/imitated.sh imitates.
pub fn gpu() -> Device {
    match std::env::var("UPSTILL_TEST_GPU").as_deref() {
        Ok("software") => Device::choose("wgpu:software").unwrap(),
        Ok("cuda") => Device::choose("cuda").unwrap(),
        _ => panic!("say which GPU: UPSTILL_TEST_GPU=software (Lavapipe), or =cuda"),
    }
}

/// Waits for something to be so; what is waited for takes far less than the two minutes that it has.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let from = std::time::Instant::now();
    while !is_so() {
        assert!(from.elapsed() < std::time::Duration::from_secs(120), "waited too long for {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// The command; see [`listening`].
pub fn program() -> Command {
    listening(Command::new(env!("CARGO_BIN_EXE_upstill")))
}

/// A process that listens to signals as if a person had started it. A shell that runs tests in the background has
/// SIGINT ignored, which upstill would respect.
#[cfg_attr(not(unix), expect(unused_mut, reason = "changed on Unix alone"))]
pub fn listening(mut command: Command) -> Command {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        let listens = || {
            for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGTERM] {
                // SAFETY: sets a signal's default action, between fork and exec, where signal may be called.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
            Ok(())
        };
        // SAFETY: the closure calls only what may be called between fork and exec.
        unsafe { command.pre_exec(listens) };
    }
    command
}
