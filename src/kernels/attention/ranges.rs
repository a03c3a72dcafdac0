//! Who sees whom, as kernels on a GPU read it: ranges of positions of a row, a first one and the one after the last.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Positions of a tile: pairs of a tile and another are worked out or left out together.
pub(super) const TILE: usize = 32;

/// What each position sees, on a device.
#[derive(Debug, Clone)]
pub(super) struct Ranges {
    /// What each position sees, `[b * s]` ranges; then of each tile of each row what its positions see and what sees
    /// them, both in whole tiles, `[b * tiles, 2]`.
    pub numbers: Tensor<1, Int>,
    /// What share of all pairs is in tiles in which any position sees another.
    pub share: f64,
}

impl Ranges {
    /// From what each position sees of its row, `s` positions long. Both ends grow along a row.
    pub fn new(seen_bs: &[[usize; 2]], s: usize, device: &Device) -> Self {
        let (mut ranges, mut pairs) = (seen_bs.to_vec(), 0);
        for seen_s in seen_bs.chunks(s.max(1)) {
            let of_tiles: Vec<[usize; 2]> = seen_s.chunks(TILE).map(|tile| in_tiles(tile, s)).collect();
            for (tile, keys) in of_tiles.iter().enumerate() {
                let sees = |range: &[usize; 2]| range[0] <= tile * TILE && tile * TILE < range[1];
                // As both ends grow, those that see a tile are next to each other.
                let (first, last) = (of_tiles.iter().position(sees), of_tiles.iter().rposition(sees));
                let queries = [first.unwrap_or(tile) * TILE, ((last.unwrap_or(tile) + 1) * TILE).min(s)];
                ranges.extend([*keys, queries]);
                pairs += TILE.min(s - tile * TILE) * (keys[1] - keys[0]);
            }
        }
        let numbers: Vec<i32> = ranges.as_flattened().iter().map(|&at| at as i32).collect();
        let shape = [numbers.len()];
        let share = pairs as f64 / (seen_bs.len() * s).max(1) as f64;
        Self { numbers: Tensor::from_data(TensorData::new(numbers, shape), device), share }
    }
}

/// All that any position of a tile sees, in whole tiles.
fn in_tiles(tile: &[[usize; 2]], s: usize) -> [usize; 2] {
    let first = tile.iter().map(|range| range[0]).min().unwrap_or(0);
    let end = tile.iter().map(|range| range[1]).max().unwrap_or(0);
    [first / TILE * TILE, end.next_multiple_of(TILE).min(s)]
}
