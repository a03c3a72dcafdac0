//! Trains a tiny model on a few sentences of your own: text to tokens to a model, all in memory.
//! `cargo run --release --example train_tiny`

use upstill::config::RunFile;
use upstill::device::Device;
use upstill::log::Console;
use upstill::tokens::{Shards, Tokenizer};
use upstill::train::{RunOptions, plan_on, train_run};

fn main() -> upstill::Result<()> {
    let animals = ["cat", "dog", "horse", "bird", "fish"];
    let sentences: Vec<String> = animals
        .iter()
        .flat_map(|a| animals.iter().map(move |b| format!("the {a} looks at the {b} because the {b} looks at the {a}")))
        .collect();
    let tokenizer = Tokenizer::train(sentences.iter().cloned(), 200, 1)?;
    let ids = sentences.iter().map(|sentence| tokenizer.encode(sentence)).collect::<upstill::Result<Vec<_>>>()?;
    let (train, held_out) = (ids[..20].to_vec(), ids[20..].to_vec());
    let shards = Shards::from_sentences(tokenizer, train, held_out);

    let text = "preset = \"standalone\"\n[model]\nlayers = 2\nhidden = 64\nheads = 4\nmax_positions = 32\ndropout = 0.0\n\
                [data]\nshards = \"in memory\"\nlength = 16\n[train]\nsteps = 150\nbatch = 16\nlr = \"0 -> 3e-3 over 10%, then -> 0 linear\"";
    let file = RunFile::parse(text, "this example")?;
    let plan = plan_on(&file, &shards)?;

    let dir = std::env::temp_dir().join(format!("upstill-train-tiny-{}", std::process::id()));
    let (console, device) = (Console::stderr(), Device::choose("auto")?);
    let options = RunOptions { dir: &dir, resume: false, name: "tiny", console: &console, device: &device };
    let summary = train_run(&plan, &shards, &options)?;
    println!(
        "held-out loss {:.3} nats a masked token; the model is in {}",
        summary.held_out_loss.unwrap_or(f64::NAN),
        dir.display()
    );
    Ok(())
}
