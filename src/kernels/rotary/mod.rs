//! Rotary positions (Su et al. 2021): queries and keys are turned by angles that grow with the position, so that scores
//! depend on distances alone.

mod composed;
mod cpu;
#[cfg(feature = "gpu")]
pub(super) mod cube;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};

use super::attention::{Blocks, Sight};
use super::dropout::Dropout;
use super::form::Form;
use super::look_up::Places;
use super::spent::{self, Part};
use crate::config::RopeScaling;
use crate::device::Compute;

/// Cosines and sines by position, for heads of one width: the angle of pair `i` at position `p` is
/// `p / theta^(2 i / width)`, or what a scaling makes of that frequency.
#[derive(Debug, Clone)]
pub struct Rotary {
    positions: Places,
    width: usize,
    angles: Arc<Angles>,
    on_device: Arc<OnceLock<Tensor<2>>>,
}

/// `[p, width / 2]` from position 0 to the highest that occurs, or a higher one.
#[derive(Debug)]
struct Angles {
    cosines_ph: Vec<f32>,
    sines_ph: Vec<f32>,
}

impl Angles {
    /// Frequencies and angles are rounded to f32, as `transformers` has them: models were trained so.
    fn new(count: usize, width: usize, theta: f64, scaling: Option<RopeScaling>) -> Self {
        let frequency = |i: usize| (1.0 / theta.powf((2 * i) as f64 / width as f64)) as f32;
        let scaled = |frequency: f32| scaling.map_or(frequency, |scaling| scaled(frequency, &scaling));
        let frequencies: Vec<f32> = (0..width / 2).map(|i| scaled(frequency(i))).collect();
        let angles = (0..count).flat_map(|p| frequencies.iter().map(move |frequency| f64::from(p as f32 * frequency)));
        let (cosines_ph, sines_ph) = angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
        Self { cosines_ph, sines_ph }
    }

    /// Those of `count` positions at least. What was made last is kept, and found again: every layer of a kind, model
    /// and step wants the same.
    fn of(count: usize, width: usize, theta: f64, scaling: Option<RopeScaling>) -> Arc<Self> {
        const KEPT: usize = 4;
        type Key = (usize, u64, Option<RopeScaling>);
        static LAST: Mutex<VecDeque<(Key, Arc<Angles>)>> = Mutex::new(VecDeque::new());
        let mut kept = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (width, theta.to_bits(), scaling);
        let is_wanted = |(own, angles): &&(Key, Arc<Self>)| *own == key && angles.cosines_ph.len() >= count * (width / 2);
        if let Some((_, angles)) = kept.iter().find(is_wanted) {
            return angles.clone();
        }
        // A text that grows does not ask for new ones at each token.
        let angles = Arc::new(Self::new(count.next_power_of_two(), width, theta, scaling));
        kept.push_front((key, angles.clone()));
        kept.truncate(KEPT);
        angles
    }
}

/// A frequency, in radians a position, as Llama 3 has it for longer texts (`transformers`'
/// `_compute_llama3_parameters`).
fn scaled(frequency: f32, scaling: &RopeScaling) -> f32 {
    let RopeScaling { factor, low_freq_factor, high_freq_factor, original_max_positions } = *scaling;
    let own = f64::from(frequency);
    let turns = original_max_positions as f64 * own / std::f64::consts::TAU;
    let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
    ((1.0 - kept) * own / factor + kept * own) as f32
}

impl Rotary {
    /// For positions within their sentences, heads `width` wide (an even number) and the base `theta`.
    pub fn new(positions: &Places, width: usize, theta: f64) -> Self {
        Self::scaled(positions, width, theta, None)
    }

    /// [`new`](Self::new) with frequencies that were scaled for longer texts.
    pub fn scaled(positions: &Places, width: usize, theta: f64, scaling: Option<RopeScaling>) -> Self {
        let highest = positions.rows().iter().copied().max().unwrap_or(0).max(0);
        let angles = Angles::of(highest as usize + 1, width, theta, scaling);
        Self { positions: positions.clone(), width, angles, on_device: Arc::default() }
    }

    /// Positions of the rows whose queries and keys are turned.
    pub(super) fn positions(&self) -> &[i32] {
        self.positions.rows()
    }

    /// Each position's cosines and then its sines, `[p, width]`, uploaded once.
    fn on(&self, device: &Device) -> Tensor<2> {
        let upload = || {
            let (Angles { cosines_ph, sines_ph }, half) = (&*self.angles, self.width / 2);
            let rows = cosines_ph.chunks(half).zip(sines_ph.chunks(half));
            let angles_pw: Vec<f32> = rows.flat_map(|(cosines, sines)| [cosines, sines].concat()).collect();
            let shape = [angles_pw.len() / self.width, self.width];
            Tensor::from_data(TensorData::new(angles_pw, shape), device)
        };
        self.on_device.get_or_init(upload).clone()
    }
}

/// `dropout(softmax(q k^T / sqrt(w))) v` a head, as [`self_attention`](super::attention::self_attention) has it, of queries, keys
/// and values side by side, of which `rotary` turns the first two: `[b * s, 3 d]` to `[b * s, d]`.
pub fn rotary_attention(
    qkv_ne: Tensor<2>,
    heads: usize,
    sight: &Sight,
    rotary: &Rotary,
    dropout: &mut Dropout,
    compute: &Compute,
) -> Tensor<2> {
    let [n, e] = qkv_ne.dims();
    let scores = n * heads * sight.length;
    match compute.form_with(dropout, scores) {
        Form::Cpu | Form::CpuBf16 => {
            let blocks = Blocks { sight: sight.clone(), heads, sharing: 1, d: e / 3, mask: dropout.mask(scores) };
            spent::on(Part::Attention, || cpu::rotary_attention(qkv_ne, blocks, rotary))
        }
        #[cfg(feature = "gpu")]
        Form::Gpu => cube::rotary_attention(qkv_ne, heads, sight, rotary, dropout.mask(scores), compute),
        Form::Composed => composed::rotary_attention(qkv_ne, heads, sight, rotary, dropout, compute),
    }
}
