//! Products between heads, of all pairs or of those alone that may see each other.

use burn_cubecl::tensor::CubeTensor;

use super::Sizes;
use super::tiles::Tiles;
use crate::device::{Kernels, Traits};
use crate::kernels::attention::Sight;
use crate::kernels::attention::ranges::Ranges;
use crate::kernels::gpu::{ints_on_gpu, on_gpu, tensor};
use crate::kernels::matmul::{product, transposed};

/// How heads of queries, `[b, heads, s, w]`, are multiplied by those of keys or values, `[b, keys, s, w]`: as many of
/// queries, next to each other, share one of keys.
#[derive(Debug)]
pub(super) struct Products {
    heads: usize,
    keys: usize,
    kernels: Kernels,
    /// What sees what, for the kernels.
    pub ranges: CubeTensor,
    /// How pairs are left out, where that is worth it.
    pub tiles: Option<Tiles>,
}

impl Products {
    /// Between these queries and keys.
    pub fn of(query: &CubeTensor, key: &CubeTensor, sizes: Sizes, sight: &Sight, kernels: Kernels) -> Self {
        let keys = key.meta.shape()[1];
        let Ranges { numbers, share } = sight.ranges_on(&tensor::<4>(query.clone()).device());
        let most = f64::from(Traits::of_runtime(query.client.name()).most_seen_percent) / 100.0;
        let tiles = Tiles::of(sizes, keys).filter(|_| *share <= most);
        Self { heads: sizes.heads, keys, kernels, ranges: ints_on_gpu(numbers), tiles }
    }

    /// Each query by each key: `[b, heads, s, w]` and `[b, keys, s, w]` to `[b, heads, s, s]`.
    pub fn of_pairs(&self, x: &CubeTensor, y: &CubeTensor) -> CubeTensor {
        match self.tiles {
            Some(tiles) => tiles.of_pairs(x, y, &self.ranges),
            None => with_heads(&product(&with_heads(x, self.keys), &transposed(y), x.dtype, self.kernels), self.heads),
        }
    }

    /// Sums over keys: `[b, heads, s, s]` and `[b, keys, s, w]` to `[b, heads, s, w]`.
    pub fn over_keys(&self, shares: &CubeTensor, y: &CubeTensor) -> CubeTensor {
        match self.tiles {
            Some(tiles) => tiles.over_keys(shares, y, &self.ranges),
            None => with_heads(&product(&with_heads(shares, self.keys), y, y.dtype, self.kernels), self.heads),
        }
    }

    /// Sums over queries, of all heads that share a key: `[b, heads, s, s]` and `[b, heads, s, w]` to `[b, keys, s,
    /// w]`.
    pub fn over_queries(&self, shares: &CubeTensor, x: &CubeTensor) -> CubeTensor {
        match self.tiles {
            Some(tiles) => tiles.over_queries(shares, x, &self.ranges),
            None => {
                let shares = transposed(&with_heads(shares, self.keys));
                product(&shares, &with_heads(x, self.keys), x.dtype, self.kernels)
            }
        }
    }
}

/// `[b, h, s, x]` as `[b, heads, h s / heads, x]`: with fewer heads, those that share keys lie below each other, so that
/// one product with the keys is all of theirs, and its gradients are summed over them. Nothing is copied.
fn with_heads(x: &CubeTensor, heads: usize) -> CubeTensor {
    let [b, h, s, width] = x.meta.shape().dims::<4>();
    match h == heads {
        true => x.clone(),
        false => on_gpu(&tensor::<4>(x.clone()).reshape([b, heads, h * s / heads, width])),
    }
}
