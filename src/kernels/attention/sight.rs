//! Who sees whom.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::batch::TokenOrder;

/// Added to the score of a pair of positions that must not see each other; far below any real score, and finite,
/// so that a row of padding (which sees nothing) has a softmax.
const UNSEEN: f32 = -1e9;

/// Who sees whom in a batch of rows: the positions of one segment see each other, those that `order` and `window` let
/// them.
#[derive(Debug, Clone)]
pub struct Sight {
    segments_bs: Arc<[i32]>,
    /// Positions of a row.
    pub(in crate::kernels) length: usize,
    order: TokenOrder,
    pub(super) window: Option<usize>,
    bias_b1ss: Arc<OnceLock<Tensor<4>>>,
    on_device: Arc<OnceLock<Tensor<1, Int>>>,
}

impl Sight {
    /// From the segment of each position, `[b * s]` row after row: equal numbers above 0 next to each other are a
    /// segment, 0 is padding. What padding sees is left open. Positions of a segment see all of it.
    pub fn new(segments_bs: &[i32], length: usize) -> Self {
        let (order, window) = (TokenOrder::Bidirectional, None);
        Self { segments_bs: segments_bs.into(), length, order, window, bias_b1ss: Arc::default(), on_device: Arc::default() }
    }

    /// With another order of tokens.
    #[must_use]
    pub fn in_order(self, order: TokenOrder) -> Self {
        if self.order == order { self } else { Self { order, bias_b1ss: Arc::default(), ..self } }
    }

    /// Where a position sees no other that is `window` positions away or more.
    #[must_use]
    pub fn within(self, window: usize) -> Self {
        Self { window: Some(window), bias_b1ss: Arc::default(), ..self }
    }

    /// Whether the position `query` of a row may look at the position `key` of the same segment.
    fn reaches(&self, query: usize, key: usize) -> bool {
        (self.order == TokenOrder::Bidirectional || key <= query) && self.window.is_none_or(|window| query.abs_diff(key) < window)
    }

    /// Whether every position sees all of its segment.
    pub(super) fn is_whole(&self) -> bool {
        self.order == TokenOrder::Bidirectional && self.window.is_none()
    }

    /// How far from a position the first and the last of its segment are that it may see; what is before it is below 0.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "GPUs alone need it"))]
    pub(super) fn reach(&self) -> [i32; 2] {
        let beyond = self.window.map_or(self.length, |window| window - 1) as i32;
        [-beyond, if self.order == TokenOrder::Causal { 0 } else { beyond }]
    }

    /// What each position of a row counts for in a mean over its real ones: `[b, s]`.
    pub(crate) fn means(&self, device: &Device) -> Tensor<2> {
        let mut shares_bs = Vec::with_capacity(self.segments_bs.len());
        for row_s in self.segments_bs.chunks(self.length.max(1)) {
            let share = 1.0 / row_s.iter().filter(|&&segment| segment > 0).count().max(1) as f32;
            shares_bs.extend(row_s.iter().map(|&segment| if segment > 0 { share } else { 0.0 }));
        }
        let shape = [self.segments_bs.len() / self.length.max(1), self.length];
        Tensor::from_data(TensorData::new(shares_bs, shape), device)
    }

    /// The segments on a device, uploaded once.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "GPUs alone need them"))]
    pub(super) fn on(&self, device: &Device) -> Tensor<1, Int> {
        let upload = || Tensor::from_data(TensorData::new(self.segments_bs.to_vec(), [self.segments_bs.len()]), device);
        self.on_device.get_or_init(upload).clone()
    }

    /// Positions of a row.
    pub fn length(&self) -> usize {
        self.length
    }

    /// 0 where the query may look at the key, a large negative number elsewhere: `[b, 1, s, s]`.
    pub(crate) fn bias_b1ss(&self, device: &Device) -> Tensor<4> {
        let upload = || {
            let s = self.length;
            let shape = [self.segments_bs.len() / s.max(1), s];
            let segments_bs = Tensor::<2, Int>::from_data(TensorData::new(self.segments_bs.to_vec(), shape), device);
            let same_bss = segments_bs.clone().unsqueeze_dim::<3>(2).equal(segments_bs.unsqueeze_dim::<3>(1));
            let bias_b1ss = (same_bss.bool_not().float() * UNSEEN).unsqueeze_dim(1);
            if self.is_whole() {
                return bias_b1ss;
            }
            let out_of_reach = (0..s * s).map(|at| if self.reaches(at / s, at % s) { 0.0 } else { UNSEEN }).collect();
            bias_b1ss + Tensor::<4>::from_data(TensorData::new::<f32, _>(out_of_reach, [1, 1, s, s]), device)
        };
        self.bias_b1ss.get_or_init(upload).clone()
    }

    /// The positions of a segment in parts that ask together, each with the positions that they may see.
    pub(super) fn asked_of(&self, segment: Range<usize>) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        // Larger parts see more that is hidden again, smaller ones make small products.
        const PART: usize = 64;
        let (window, is_causal) = (self.window, self.order == TokenOrder::Causal);
        let part = if self.is_whole() { segment.len().max(1) } else { PART };
        segment.clone().step_by(part).map(move |from| {
            let to = (from + part).min(segment.end);
            let beyond = window.map_or(segment.len(), |window| window - 1);
            let last = if is_causal { to } else { to.saturating_add(beyond).min(segment.end) };
            (from..to, from.saturating_sub(beyond).max(segment.start)..last)
        })
    }

    /// Those of some positions, next to each other and of its segment, that a query sees.
    pub(super) fn seen_by(&self, query: usize, keys: &Range<usize>) -> Range<usize> {
        let beyond = self.window.map_or(self.length, |window| window - 1);
        let from = query.saturating_sub(beyond).clamp(keys.start, keys.end);
        let to = if self.order == TokenOrder::Causal { query + 1 } else { query + beyond + 1 };
        from..to.clamp(from, keys.end)
    }

    /// The places of each segment of a row.
    pub(super) fn of_row(&self, row: usize) -> impl Iterator<Item = Range<usize>> {
        let mut from = 0;
        self.segments_bs[row * self.length..][..self.length].chunk_by(|a, b| a == b).filter_map(move |part| {
            let range = from..from + part.len();
            from = range.end;
            (part[0] > 0).then_some(range)
        })
    }
}
