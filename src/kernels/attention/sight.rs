//! Who sees whom.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Int, Tensor, TensorData};

#[cfg(feature = "gpu")]
use super::ranges::Ranges;
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
    made: Made,
}

/// What is made of a sight when it is first asked for.
#[derive(Debug, Clone, Default)]
struct Made {
    bias_b1ss: Arc<OnceLock<Tensor<4>>>,
    #[cfg(feature = "gpu")]
    ranges: Arc<OnceLock<Ranges>>,
}

impl Sight {
    /// From the segment of each position, `[b * s]` row after row: equal numbers above 0 next to each other are a
    /// segment, 0 is padding. What padding sees is left open. Positions of a segment see all of it.
    pub fn new(segments_bs: &[i32], length: usize) -> Self {
        let (order, window) = (TokenOrder::Bidirectional, None);
        Self { segments_bs: segments_bs.into(), length, order, window, made: Made::default() }
    }

    /// With another order of tokens.
    #[must_use]
    pub fn in_order(self, order: TokenOrder) -> Self {
        if self.order == order { self } else { Self { order, made: Made::default(), ..self } }
    }

    /// Where a position sees no other that is `window` positions away or more.
    #[must_use]
    pub fn within(self, window: usize) -> Self {
        Self { window: Some(window), made: Made::default(), ..self }
    }

    /// Whether the position `query` of a row may look at the position `key` of the same segment.
    fn reaches(&self, query: usize, key: usize) -> bool {
        (self.order == TokenOrder::Bidirectional || key <= query) && self.window.is_none_or(|window| query.abs_diff(key) < window)
    }

    /// Whether every position sees all of its segment.
    pub(super) fn is_whole(&self) -> bool {
        self.order == TokenOrder::Bidirectional && self.window.is_none()
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
        self.made.bias_b1ss.get_or_init(upload).clone()
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

    /// What each position sees of its row; padding sees itself.
    #[cfg(feature = "gpu")]
    fn seen(&self) -> Vec<[usize; 2]> {
        let s = self.length;
        let mut seen_bs: Vec<[usize; 2]> = (0..self.segments_bs.len()).map(|at| [at % s, at % s + 1]).collect();
        for (row, seen_s) in seen_bs.chunks_mut(s.max(1)).enumerate() {
            for segment in self.of_row(row) {
                for at in segment.clone() {
                    let range = self.seen_by(at, &segment);
                    seen_s[at] = [range.start, range.end];
                }
            }
        }
        seen_bs
    }

    /// For kernels on a GPU, made and uploaded once.
    #[cfg(feature = "gpu")]
    pub(super) fn ranges_on(&self, device: &Device) -> &Ranges {
        self.made.ranges.get_or_init(|| Ranges::new(&self.seen(), self.length, device))
    }
}

#[cfg(all(test, feature = "gpu"))]
mod tests {
    use super::*;
    use crate::kernels::attention::ranges::TILE;

    /// A position's range is whom it sees, and where it sees anyone, that pair of tiles is within both tiles' ranges.
    #[test]
    fn no_pair_that_sees_each_other_is_left_out() {
        let segments = [vec![1; 3], vec![2; 40], vec![3; 50], vec![0; 10], vec![1; 103]].concat();
        let all = || Sight::new(&segments, 103);
        for sight in [all(), all().in_order(TokenOrder::Causal), all().within(9), all().in_order(TokenOrder::Causal).within(40)] {
            let numbers: Vec<i32> = sight.ranges_on(&Device::flex()).numbers.clone().into_data().try_to_vec().unwrap();
            let (of_positions, of_tiles) = numbers.split_at(2 * segments.len());
            for (query, key) in (0..2 * 103).flat_map(|query| (0..103).map(move |key| (query, key))) {
                let range = &of_positions[2 * query..][..2];
                let sees = (range[0]..range[1]).contains(&(key as i32));
                let (row, place) = (query / 103, query % 103);
                let of = |tile: usize| &of_tiles[4 * (row * 4 + tile)..][..4];
                let (of_query, of_key) = (of(place / TILE), of(key / TILE));
                let by_query = (of_query[0]..of_query[1]).contains(&(key as i32));
                let by_key = (of_key[2]..of_key[3]).contains(&(place as i32));
                assert_eq!(by_query, by_key, "{query} and {key}");
                assert!(!sees || by_query, "{query} sees {key}");
                let is_own = segments[query] == segments[row * 103 + key] && sight.reaches(place, key);
                assert_eq!(sees, if segments[query] == 0 { place == key } else { is_own }, "{query} and {key}");
            }
        }
    }

    /// What is left of rows of 1024 positions: 33 of 64 tiles before each other, 9 of 32 around each and 5 before it,
    /// fewer at the rows' ends.
    #[test]
    fn causal_order_and_windows_leave_few_tiles() {
        let all = || Sight::new(&[1; 1024], 1024);
        let causal = || all().in_order(TokenOrder::Causal);
        let shares =
            [all(), causal(), all().within(128), causal().within(128)].map(|sight| sight.ranges_on(&Device::flex()).share);
        assert_eq!(shares, [1.0, 528.0 / 1024.0, 268.0 / 1024.0, 150.0 / 1024.0]);
    }
}
