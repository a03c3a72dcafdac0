//! Both directions of an LSTM with max-pooling over time, forward and backward: composed, fused and `torch.nn.LSTM`.

use burn::tensor::{Tensor, TensorData};

use super::meter::{Taken, measure, memory_and_seconds};
use super::peer::Peer;
use super::{Row, against_peer, median};
use crate::device::{Compute, Device, Kernels, Precision, is_cpu};
use crate::kernels::dwt_loss::spread;
use crate::kernels::{Direction, bilstm, lstm_composed};

/// A size to measure.
#[derive(Debug, Clone, Copy)]
pub struct LstmSize {
    /// Rows, all of one length.
    pub rows: usize,
    /// Steps of a row.
    pub steps: usize,
    /// Width of a word vector.
    pub words: usize,
    /// Units of a direction.
    pub hidden: usize,
}

/// Measures each form `rounds` times in turn. `note` is told what is not there.
pub fn bench_lstm(size: LstmSize, rounds: usize, device: &Device, python: &str, mut note: impl FnMut(String)) -> Vec<Row> {
    let LstmSize { rows: b, steps: t, words: w, hidden: h } = size;
    let mut pytorch = Peer::pytorch(python, device, Precision::F32, 1)
        .map_err(|why| note(format!("NOTE: no PyTorch to compare with: {why}")))
        .ok();
    pytorch.iter().for_each(|pytorch| note(pytorch.about.clone()));
    let mut forms = vec![("composed", false)];
    if is_cpu(&device.handle) {
        forms.push(("fused", true));
    }
    let mut taken: Vec<(&'static str, Vec<Taken>)> = forms.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for round in 0..=rounds + 1 {
        for ((_, fused), (_, all)) in forms.iter().zip(&mut taken) {
            let one = measure(round, || run(size, device, *fused));
            (round > 0).then(|| all.push(one));
        }
        let theirs = pytorch.as_mut().map(|pytorch| pytorch.measure(round, &format!("lstm eager {t} {b} {w} {h}")));
        match theirs {
            Some(Ok(one)) if round > 0 => match taken.iter_mut().find(|(name, _)| *name == "pytorch") {
                Some((_, all)) => all.push(one),
                None => taken.push(("pytorch", vec![one])),
            },
            Some(Err(why)) => {
                note(format!("NOTE: pytorch: {why}"));
                pytorch = None;
            }
            _ => {}
        }
    }
    let row = |(form, taken): (&'static str, Vec<Taken>)| {
        let (peak_bytes, seconds) = memory_and_seconds(&taken);
        let seconds = median(seconds);
        Row {
            what: "bilstm",
            size: format!("{b} x {t} tokens, {w} -> 2 x {h}"),
            form,
            device: device.to_string(),
            seconds,
            tokens_per_s: Some((b * t) as f64 / seconds),
            fewest_bytes: None,
            copy_share: None,
            peak_bytes,
            peer: "",
            ratio: None,
        }
    };
    against_peer(taken.into_iter().map(row).collect())
}

/// Forward and backward, from word vectors to all weights.
fn run(size: LstmSize, device: &Device, fused: bool) {
    let LstmSize { rows: b, steps: t, words: w, hidden: h } = size;
    let tracked = device.handle.clone().autodiff();
    let leaf = |shape: [usize; 2], seed: u64| {
        let values = Tensor::<2>::from_data(TensorData::new(spread(shape[0] * shape[1], seed), shape), &tracked);
        (values.detach() * 0.05).detach().require_grad()
    };
    let words_nw = leaf([t * b, w], 1);
    let directions = [2, 4].map(|seed| Direction {
        gates_ng: words_nw.clone().matmul(leaf([w, 4 * h], seed)),
        recurrent_hg: leaf([h, 4 * h], seed + 1),
        keep_bh: None,
    });
    let active = vec![b; t];
    let states_2tbh = match fused {
        true => bilstm(directions, &active, &Compute::of(&device.handle).by(Kernels::Fused)),
        false => Tensor::stack(directions.map(|direction| lstm_composed(&direction, &active)).to_vec(), 0),
    };
    let gradients = states_2tbh.max_dim(1).sum().backward();
    let by_words = words_nw.grad(&gradients).expect("a gradient");
    // Reading a number back waits for a GPU.
    let _ = by_words.narrow(0, 0, 1).narrow(1, 0, 1).into_scalar::<f32>();
}
