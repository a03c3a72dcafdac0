//! The paper's question in one program: a weak teacher, a student alone, and the same student with that teacher.
//! `cargo run --release --example distil_weak_teacher`

use upstill::config::RunFile;
use upstill::device::Device;
use upstill::log::Console;
use upstill::train::{RunOptions, plan_run, train_run};

const BASE: &str = r#"
[model]
layers = 3
hidden = 64
heads = 2
max_positions = 64
dropout = 0.0
[data]
shards = "pocket"
rows = "packed"
length = 64
[train]
steps = 150
batch = 16
lr = "0 -> 5e-3 over 15%, then -> 0 linear"
"#;

fn main() -> upstill::Result<()> {
    let root = std::env::temp_dir().join(format!("upstill-distil-{}", std::process::id()));
    let (console, device) = (Console::stderr(), Device::choose("auto")?);
    let teacher = format!("teacher.from={}", root.join("teacher").display());
    let runs: [(&str, &[&str]); 3] = [
        ("teacher", &["preset=standalone", "model.layers=1"]),
        ("alone", &["preset=standalone"]),
        ("distilled", &["preset=dwt-decay", &teacher]),
    ];
    for (name, set) in runs {
        let mut file = RunFile::parse(BASE, "this example")?;
        set.iter().for_each(|assignment| file.set(assignment));
        let (plan, shards) = plan_run(&file)?;
        let options = RunOptions { dir: &root.join(name), resume: false, name, console: &console, device: &device };
        let summary = train_run(&plan, &shards, &options)?;
        println!("{name:<10} held-out loss {:.3} nats a masked token", summary.held_out_loss.unwrap_or(f64::NAN));
    }
    println!("one seed decides nothing: `upstill study` runs three, and draws them\nupstill report {}/*", root.display());
    Ok(())
}
