//! Fills the [MASK] of a sentence with a trained model: a run directory, a checkpoint or a Hugging Face folder.
//! `cargo run --release --example fill_mask -- runs/student "anna is a [MASK] ."`

use std::path::Path;

use upstill::device::Device;
use upstill::methods::fill_mask;
use upstill::model::ModelFolder;

fn main() -> upstill::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(model), Some(sentence)) = (args.next(), args.next()) else {
        return Err(upstill::Error::new("two arguments are needed: a model's folder and a sentence with [MASK]"));
    };
    let device = Device::cpu("an example").handle;
    let folder = ModelFolder::open(Path::new(&model))?;
    for candidates in fill_mask(&folder.load(&device)?, &folder.tokenizer()?, &sentence, 5, &device)? {
        for found in candidates {
            println!("{:6.2} %  {}", 100.0 * found.probability, found.token);
        }
    }
    Ok(())
}
