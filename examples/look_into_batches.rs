//! Draws masked batches as a person reads them: `sentence` rows, then the same text `packed`.
//! `cargo run --release --example look_into_batches`

use upstill::batch::{BatchOptions, Batches, Masking, Split};
use upstill::config::Rows;
use upstill::tokens::pocket_shards;

fn main() -> upstill::Result<()> {
    let shards = pocket_shards()?;
    for layout in [Rows::Sentence, Rows::Packed] {
        let options = BatchOptions { layout, length: 64, batch: 4, seed: 1, objective: Masking::default().into() };
        let batches = Batches::new(&shards, Split::Train, options)?;
        let filled = 100.0 * batches.tokens_per_row() / options.length as f64;
        println!(
            "rows = \"{layout}\": {} rows an epoch, {filled:.0} % filled, {} masked slots a row\n",
            batches.rows_per_epoch(),
            batches.slots()
        );
        println!("{}", batches.at(0).show(shards.tokenizer(), 2));
    }
    Ok(())
}
