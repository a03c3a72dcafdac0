//! `upstill bench layers`.

use crate::bench::{LayersRow, LayersSize, bench_layers};
use crate::cli::{DeviceArg, print_json};
use crate::error::Result;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill bench layers
  upstill bench layers --rows 16 --length 128 --python .venv/bin/python
  upstill bench layers --device wgpu --json

The forms take turns, in f32, and the median counts. Ratios are of forward and backward together.")]
pub struct Layers {
    /// Rows at once, each one text
    #[arg(long, default_value_t = 2)]
    rows: usize,
    /// Tokens of a row
    #[arg(long, default_value_t = 1024)]
    length: usize,
    /// Width of hidden states, a multiple of 128: heads are 64 wide
    #[arg(long, default_value_t = 256)]
    hidden: usize,
    /// Where attention has a window, a token sees those that are nearer than this
    #[arg(long, default_value_t = 65)]
    window: usize,
    /// Times that each form runs
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A Python that may have PyTorch
    #[arg(long, default_value = "python3", env = "UPSTILL_PYTHON")]
    python: String,
    #[command(flatten)]
    device: DeviceArg,
    /// Print the rows on standard output for machines
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Layers) -> Result<()> {
    let device = args.device.choose("auto")?;
    let [rows, length, hidden, window] = [args.rows, args.length, args.hidden, args.window].map(|size| size.max(1));
    let size = LayersSize { rows, length, hidden, window };
    let rows = bench_layers(size, args.rounds.max(1), &device, &args.python, |note| eprintln!("{note}"));
    match args.json {
        true => print_json(&serde_json::json!({ "rows": rows })),
        false => println!("{}", table(&rows)),
    }
    Ok(())
}

fn table(rows: &[LayersRow]) -> String {
    let mut out = format!(
        "{:<32} {:<28} {:<17} {:>11} {:>11} {:>13} {:>12}\n",
        "operation", "tokens x width", "form", "forward", "backward", "over composed", "over PyTorch"
    );
    for row in rows {
        let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.2} x"));
        let line = format!(
            "{:<32} {:<28} {:<17} {:>8.2} ms {:>8.2} ms {:>13} {:>12}",
            row.what,
            row.size,
            row.form,
            row.forward_s * 1e3,
            row.backward_s * 1e3,
            ratio(row.over_composed),
            ratio(row.over_pytorch),
        );
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_leaves_blank_what_was_not_compared() {
        let row = LayersRow {
            what: "RMS norm",
            size: "2 x 1024 x 256".into(),
            form: "fused",
            device: "cpu".into(),
            forward_s: 0.001_25,
            backward_s: 0.002,
            over_composed: Some(3.5),
            over_pytorch: None,
        };
        let beside = LayersRow { over_pytorch: Some(1.25), what: "causal attention, 2 heads a key", ..row.clone() };
        insta::assert_snapshot!(table(&[row, beside]), @"
        operation                        tokens x width               form                  forward    backward over composed over PyTorch
        RMS norm                         2 x 1024 x 256               fused                 1.25 ms     2.00 ms        3.50 x
        causal attention, 2 heads a key  2 x 1024 x 256               fused                 1.25 ms     2.00 ms        3.50 x       1.25 x
        ");
    }
}
