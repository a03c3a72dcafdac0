//! The operations of layers that are small beside their products, forward and backward: composed, fused, PyTorch's.

use burn::tensor::{Device as BurnDevice, Tensor, TensorData};
use serde::Serialize;

use super::median;
use super::meter::{Taken, measure, memory_and_seconds};
use super::peer::Peer;
use crate::batch::TokenOrder;
use crate::device::{Compute, Device, Precision, Traits};
use crate::kernels::dwt_loss::spread;
use crate::kernels::{
    Dropout, Heads, Norm, Places, Rotary, Sight, gelu_gate, grouped_attention, norm_of_sum, rms_norm, rotary_attention,
    silu_gate, tanh_gelu,
};

/// A size to measure.
#[derive(Debug, Clone, Copy)]
pub struct LayersSize {
    /// Rows, each one text.
    pub rows: usize,
    /// Tokens of a row.
    pub length: usize,
    /// Width of hidden states; heads are 64 wide, feed-forward layers four times as wide.
    pub hidden: usize,
    /// How near a token must be to be seen, where there is a window: nearer than this.
    pub window: usize,
}

/// An operation in one form: a line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct LayersRow {
    /// The operation.
    pub what: &'static str,
    /// What goes in.
    pub size: String,
    /// `composed`, `fused`, `cubecl`, `pytorch` or `pytorch compiled`.
    pub form: &'static str,
    /// The device.
    pub device: String,
    /// Median over the rounds.
    pub forward_s: f64,
    /// Likewise, of all gradients.
    pub backward_s: f64,
    /// The composed form's seconds, both ways together, over these.
    pub over_composed: Option<f64>,
    /// PyTorch's, the faster of eager and compiled, over these.
    pub over_pytorch: Option<f64>,
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
enum Operation {
    LayerNorm,
    RmsNorm,
    Geglu,
    Swiglu,
    TanhGelu,
    Rotary,
    RotaryInWindow,
    CausalShared,
}

impl Operation {
    const ALL: [Self; 8] = [
        Self::LayerNorm,
        Self::RmsNorm,
        Self::Geglu,
        Self::Swiglu,
        Self::TanhGelu,
        Self::Rotary,
        Self::RotaryInWindow,
        Self::CausalShared,
    ];

    /// Its name in the table, and PyTorch's for it.
    fn names(self) -> [&'static str; 2] {
        match self {
            Self::LayerNorm => ["layer norm without a bias", "layer-norm"],
            Self::RmsNorm => ["RMS norm", "rms-norm"],
            Self::Geglu => ["GeGLU", "geglu"],
            Self::Swiglu => ["SwiGLU", "swiglu"],
            Self::TanhGelu => ["tanh GELU", "tanh-gelu"],
            Self::Rotary => ["rotary attention", "rotary"],
            Self::RotaryInWindow => ["rotary attention, window", "rotary-window"],
            Self::CausalShared => ["causal attention, 2 heads a key", "causal-shared"],
        }
    }

    /// Columns of what it reads, a row for each token.
    fn widths(self, d: usize) -> Vec<usize> {
        match self {
            Self::LayerNorm | Self::RmsNorm => vec![d],
            Self::Geglu => vec![8 * d],
            Self::Swiglu => vec![4 * d; 2],
            Self::TanhGelu => vec![4 * d],
            Self::Rotary | Self::RotaryInWindow => vec![3 * d],
            Self::CausalShared => vec![d, d / 2, d / 2],
        }
    }
}

/// An operation with what it reads.
struct Work {
    operation: Operation,
    inputs: Vec<Tensor<2>>,
    scale_d: Tensor<1>,
    zeros_d: Tensor<1>,
    sight: Sight,
    rotary: Rotary,
    heads: usize,
}

impl Work {
    fn new(operation: Operation, size: LayersSize, device: &BurnDevice) -> Self {
        let LayersSize { rows, length, hidden: d, window } = size;
        let n = rows * length;
        let widths = operation.widths(d);
        let input = |(seed, &columns): (usize, &usize)| {
            Tensor::from_data(TensorData::new(spread(n * columns, seed as u64 + 1), [n, columns]), device)
        };
        let positions: Vec<i32> = (0..rows).flat_map(|_| 0..length as i32).collect();
        let sight = Sight::new(&vec![1; n], length);
        Self {
            operation,
            inputs: widths.iter().enumerate().map(input).collect(),
            scale_d: Tensor::ones([d], device),
            zeros_d: Tensor::zeros([d], device),
            sight: match operation {
                Operation::RotaryInWindow => sight.within(window),
                Operation::CausalShared => sight.in_order(TokenOrder::Causal),
                _ => sight,
            },
            rotary: Rotary::new(&Places::new(&positions, device), 64, 10_000.0),
            heads: d / 64,
        }
    }

    /// Its value and what it was worked out from.
    fn forward(&self, compute: &Compute) -> (Tensor<2>, Tensor<2>) {
        let leaves: Vec<Tensor<2>> = self.inputs.iter().map(|x| x.clone().autodiff().require_grad()).collect();
        let x = |which: usize| leaves[which].clone();
        let scale = || self.scale_d.clone().autodiff().require_grad();
        let mut off = Dropout::off();
        let (heads, sight) = (self.heads, &self.sight);
        let out = match self.operation {
            Operation::LayerNorm => {
                let norm = Norm { gamma_d: scale(), beta_d: self.zeros_d.clone().autodiff(), epsilon: 1e-5 };
                norm_of_sum(x(0), None, &norm, &mut off, compute)
            }
            Operation::RmsNorm => rms_norm(x(0), scale(), 1e-6, compute),
            Operation::Geglu => gelu_gate(x(0), compute),
            Operation::Swiglu => silu_gate(x(0), x(1), compute),
            Operation::TanhGelu => tanh_gelu(x(0), compute),
            Operation::Rotary | Operation::RotaryInWindow => {
                rotary_attention(x(0), heads, sight, &self.rotary, &mut off, compute)
            }
            Operation::CausalShared => {
                let heads = Heads { queries: heads, keys: heads / 2 };
                grouped_attention([x(0), x(1), x(2)], heads, sight, Some(&self.rotary), &mut off, compute)
            }
        };
        wait(out.clone().inner());
        (out, x(0))
    }
}

/// Reading a number back waits for a GPU.
fn wait(x: Tensor<2>) {
    let _ = x.narrow(0, 0, 1).narrow(1, 0, 1).into_scalar::<f32>();
}

/// What a form took of each way.
#[derive(Default)]
struct Ways {
    forward: Vec<Taken>,
    backward: Vec<Taken>,
}

impl Ways {
    fn seconds(&self) -> [f64; 2] {
        [&self.forward, &self.backward].map(|taken| median(memory_and_seconds(taken).1))
    }
}

/// Measures each form of each operation `rounds` times in turn, in f32. `note` is told what is not there. A width that
/// is no multiple of 128, two heads, becomes the next one.
pub fn bench_layers(
    size: LayersSize,
    rounds: usize,
    device: &Device,
    python: &str,
    mut note: impl FnMut(String),
) -> Vec<LayersRow> {
    let size = LayersSize { hidden: size.hidden.next_multiple_of(128), ..size };
    let mut pytorch = Peer::pytorch(python, device, Precision::F32, 1)
        .map_err(|why| note(format!("NOTE: no PyTorch to compare with: {why}; --python names one that has it")))
        .ok();
    pytorch.iter().for_each(|pytorch| note(pytorch.about.clone()));
    Operation::ALL.into_iter().flat_map(|operation| in_turn(operation, size, rounds, device, &mut pytorch, &mut note)).collect()
}

fn in_turn(
    operation: Operation,
    size: LayersSize,
    rounds: usize,
    device: &Device,
    pytorch: &mut Option<Peer>,
    note: &mut impl FnMut(String),
) -> Vec<LayersRow> {
    let [what, theirs] = operation.names();
    let work = Work::new(operation, size, &device.handle);
    let mut forms: Vec<(&'static str, Ways)> = Vec::new();
    let own = Traits::of(&device.handle).kernels;
    forms.extend(own.iter().map(|form| (form.word(), Ways::default())));
    let mut others = vec![("pytorch", "eager", Ways::default()), ("pytorch compiled", "compiled", Ways::default())];
    for round in 0..=rounds + 1 {
        for (kernels, (_, ways)) in own.iter().zip(&mut forms) {
            let compute = Compute::of(&device.handle).by(*kernels);
            let mut done = None;
            let forward = measure(round, || done = Some(work.forward(&compute)));
            let backward = done.map(|(out, leaf)| measure(round, || wait(leaf.grad(&out.sum().backward()).expect("a gradient"))));
            if round > 0 {
                ways.forward.push(forward);
                ways.backward.extend(backward);
            }
        }
        let Some(pytorch) = pytorch.as_mut() else { continue };
        others.retain_mut(|(name, how, ways)| {
            let LayersSize { rows, length, hidden, window } = size;
            let request = |way: &str| format!("layer {how} {theirs} {way} {rows} {length} {hidden} {window}");
            let both = pytorch
                .measure(round, &request("forward"))
                .and_then(|forward| Ok((forward, pytorch.measure(round, &request("backward"))?)));
            match both {
                Ok((forward, backward)) if round > 0 => {
                    ways.forward.push(forward);
                    ways.backward.push(backward);
                }
                Ok(_) => {}
                Err(ref why) => note(format!("NOTE: {name}, {what}: {why}")),
            }
            both.is_ok()
        });
    }
    if pytorch.is_some() {
        forms.extend(others.into_iter().map(|(name, _, ways)| (name, ways)));
    }
    let LayersSize { rows, length, .. } = size;
    let columns: Vec<String> = operation.widths(size.hidden).iter().map(usize::to_string).collect();
    let size = format!("{rows} x {length} x {}", columns.join(" + "));
    with_ratios(what, &size, device, &forms)
}

fn with_ratios(what: &'static str, size: &str, device: &Device, forms: &[(&'static str, Ways)]) -> Vec<LayersRow> {
    let both = |ways: &Ways| ways.seconds().iter().sum::<f64>();
    let fastest = |is_one: fn(&str) -> bool| {
        forms.iter().filter(|(form, _)| is_one(form)).map(|(_, ways)| both(ways)).min_by(f64::total_cmp)
    };
    let (composed, pytorch) = (fastest(|form| form == "composed"), fastest(|form| form.starts_with("pytorch")));
    let row = |(form, ways): &(&'static str, Ways)| {
        let [forward_s, backward_s] = ways.seconds();
        let over = |peer: Option<f64>| peer.map(|seconds| seconds / (forward_s + backward_s));
        let (over_composed, over_pytorch) = (over(composed), over(pytorch));
        LayersRow {
            what,
            size: size.to_owned(),
            form,
            device: device.to_string(),
            forward_s,
            backward_s,
            over_composed,
            over_pytorch,
        }
    };
    forms.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every form of every operation is there, has both ways' times, and the composed one is as fast as itself.
    #[test]
    fn each_form_of_each_operation_is_a_row() {
        let device = Device::choose("cpu").unwrap();
        let size = LayersSize { rows: 2, length: 16, hidden: 100, window: 4 };
        let rows = bench_layers(size, 1, &device, "no-such-python", |_| ());
        assert_eq!(rows.len(), 2 * Operation::ALL.len());
        for row in &rows {
            assert!(row.forward_s > 0.0 && row.backward_s > 0.0 && row.over_pytorch.is_none(), "{row:?}");
            assert_eq!(row.over_composed == Some(1.0), row.form == "composed", "{row:?}");
        }
        assert_eq!(rows[14].size, "2 x 16 x 128 + 64 + 64");
    }
}
