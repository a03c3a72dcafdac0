//! Products between heads that leave out the tiles of pairs in which nothing sees anything. Without workgroup memory or
//! barriers, because what is left out differs from tile to tile, and WebGPU wants barriers where all invocations come
//! by.

use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::Sizes;
use crate::kernels::attention::ranges::TILE;
use crate::kernels::gpu::reduce::within;
use crate::kernels::gpu::{arranged, empty_of};

/// Elements that an invocation takes at once, along what is summed over or along a row: it makes 4 x 4 of a product.
const EACH: usize = 4;
/// Invocations of a cube: 8 x 8 of them make a tile.
const UNITS: u32 = 64;
const ABREAST: usize = 8;
/// Pairs of an invocation.
const ALL: usize = EACH * EACH;

/// Sizes that the products have in common.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Grid {
    /// Rows times heads of queries.
    pairs: u32,
    heads: u32,
    /// Heads of queries that share one of keys.
    sharing: u32,
    /// Positions of a row.
    s: u32,
    /// Of a head, in vectors.
    width: u32,
}

/// Tiles along a row.
#[cube]
fn tiles(of: &Grid) -> usize {
    (of.s as usize).div_ceil(TILE)
}

/// Where a tile's ranges are: what it sees, and after that what sees it. `pair` counts rows and heads of queries.
#[cube]
fn ranges_of(pair: usize, tile: usize, of: &Grid) -> usize {
    let (heads, rows) = (of.heads as usize, (of.pairs / of.heads) as usize);
    2 * rows * of.s as usize + (pair / heads * tiles(of) + tile) * 4
}

/// Each query's product with each key that its tile sees: `[pairs, s, width]` and `[pairs / sharing, s, width]` to
/// `[pairs, s, s]`, of which the others stay as they are.
#[cube(launch)]
fn pairs_kernel<F: Float, W: Size>(
    x: &[Vector<F, W>],
    y: &[Vector<F, W>],
    ranges: &[i32],
    out: &mut [Vector<F, W>],
    of: Grid,
    #[define(F)] _dtype: ElemType,
) {
    let (tiles, s, width) = (tiles(&of), of.s as usize, of.width as usize);
    let pair = CUBE_POS / (tiles * tiles);
    let tile = CUBE_POS / tiles % tiles;
    let row = tile * TILE + UNIT_POS as usize / ABREAST * EACH;
    let column = CUBE_POS % tiles * TILE + UNIT_POS as usize % ABREAST * EACH;
    if pair >= of.pairs as usize || row >= s || column >= s {
        terminate!();
    }
    let range = ranges_of(pair, tile, &of);
    if column < ranges[range] as usize || column >= ranges[range + 1] as usize {
        terminate!();
    }
    let first = (pair * s + row) * width;
    let other = (pair / of.sharing as usize * s + column) * width;
    let mut sums = Array::<Vector<f32, W>>::new(ALL);
    #[unroll]
    for at in 0..ALL {
        sums[at] = Vector::new(0.0f32);
    }
    let mut columns = Array::<Vector<f32, W>>::new(EACH);
    let mut i = 0usize;
    while i < width {
        #[unroll]
        for b in 0..EACH {
            columns[b] = Vector::cast_from(y[other + b * width + i]);
        }
        #[unroll]
        for a in 0..EACH {
            let own = Vector::<f32, W>::cast_from(x[first + a * width + i]);
            #[unroll]
            for b in 0..EACH {
                sums[a * EACH + b] += own * columns[b];
            }
        }
        i += 1;
    }
    #[unroll]
    for a in 0..EACH {
        let mut found = Vector::<f32, W>::new(0.0f32);
        #[unroll]
        for b in 0..EACH {
            found.insert(b, within(sums[a * EACH + b]));
        }
        out[((pair * s + row + a) * s + column) / EACH] = Vector::cast_from(found);
    }
}

/// Sums over the keys that each query's tile sees: `[pairs, s, s]` and `[pairs / sharing, s, width]` to `[pairs, s,
/// width]`.
#[cube(launch)]
fn over_keys_kernel<F: Float, W: Size>(
    shares: &[Vector<F, W>],
    y: &[Vector<F, W>],
    ranges: &[i32],
    out: &mut [Vector<F, W>],
    of: Grid,
    #[define(F)] _dtype: ElemType,
) {
    let (tiles, s, width) = (tiles(&of), of.s as usize, of.width as usize);
    let blocks = width.div_ceil(ABREAST);
    let pair = CUBE_POS / (tiles * blocks);
    let tile = CUBE_POS / blocks % tiles;
    let row = tile * TILE + UNIT_POS as usize / ABREAST * EACH;
    let column = CUBE_POS % blocks * ABREAST + UNIT_POS as usize % ABREAST;
    if pair >= of.pairs as usize || row >= s || column >= width {
        terminate!();
    }
    let range = ranges_of(pair, tile, &of);
    let other = pair / of.sharing as usize * s;
    let mut sums = Array::<Vector<f32, W>>::new(EACH);
    #[unroll]
    for a in 0..EACH {
        sums[a] = Vector::new(0.0f32);
    }
    let mut rows = Array::<Vector<f32, W>>::new(EACH);
    let mut key = ranges[range] as usize;
    let end = ranges[range + 1] as usize;
    while key < end {
        #[unroll]
        for b in 0..EACH {
            rows[b] = Vector::cast_from(y[(other + key + b) * width + column]);
        }
        #[unroll]
        for a in 0..EACH {
            let own = Vector::<f32, W>::cast_from(shares[((pair * s + row + a) * s + key) / EACH]);
            #[unroll]
            for b in 0..EACH {
                sums[a] += Vector::new(own.extract(b)) * rows[b];
            }
        }
        key += EACH;
    }
    #[unroll]
    for a in 0..EACH {
        out[(pair * s + row + a) * width + column] = Vector::cast_from(sums[a]);
    }
}

/// Sums over the queries that see each key's tile, of all heads that share the key: `[pairs, s, s]` and `[pairs, s,
/// width]` to `[pairs / sharing, s, width]`.
#[cube(launch)]
fn over_queries_kernel<F: Float, W: Size>(
    shares: &[Vector<F, W>],
    x: &[Vector<F, W>],
    ranges: &[i32],
    out: &mut [Vector<F, W>],
    of: Grid,
    #[define(F)] _dtype: ElemType,
) {
    let (tiles, s, width, sharing) = (tiles(&of), of.s as usize, of.width as usize, of.sharing as usize);
    let blocks = width.div_ceil(ABREAST);
    let first = CUBE_POS / (tiles * blocks) * sharing;
    let tile = CUBE_POS / blocks % tiles;
    let row = tile * TILE + UNIT_POS as usize / ABREAST * EACH;
    let column = CUBE_POS % blocks * ABREAST + UNIT_POS as usize % ABREAST;
    if first >= of.pairs as usize || row >= s || column >= width {
        terminate!();
    }
    let range = ranges_of(first, tile, &of) + 2;
    let mut sums = Array::<Vector<f32, W>>::new(EACH);
    #[unroll]
    for a in 0..EACH {
        sums[a] = Vector::new(0.0f32);
    }
    let mut pair = first;
    while pair < first + sharing {
        let mut query = pair * s + ranges[range] as usize;
        let end = pair * s + ranges[range + 1] as usize;
        while query < end {
            let own = Vector::<f32, W>::cast_from(shares[(query * s + row) / EACH]);
            let other = Vector::<f32, W>::cast_from(x[query * width + column]);
            #[unroll]
            for a in 0..EACH {
                sums[a] += Vector::new(own.extract(a)) * other;
            }
            query += 1;
        }
        pair += 1;
    }
    #[unroll]
    for a in 0..EACH {
        out[(first / sharing * s + row + a) * width + column] = Vector::cast_from(sums[a]);
    }
}

/// The products, of heads of such sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles {
    sizes: Sizes,
    /// Heads of keys and values.
    keys: usize,
}

impl Tiles {
    /// `None` where vectors of four don't fit.
    pub fn of(sizes: Sizes, keys: usize) -> Option<Self> {
        (sizes.s.is_multiple_of(EACH) && sizes.width.is_multiple_of(EACH)).then_some(Self { sizes, keys })
    }

    fn grid(self) -> GridLaunch {
        let Sizes { b, s, heads, width } = self.sizes;
        let [pairs, heads, sharing, s, width] = [b * heads, heads, heads / self.keys, s, width / EACH].map(|size| size as u32);
        GridLaunch::new(pairs, heads, sharing, s, width)
    }

    /// Cubes for so many tiles beside each other, of so many pairs.
    fn cubes(self, pairs: usize, beside: usize) -> (CubeCount, CubeDim) {
        (arranged((pairs * self.sizes.s.div_ceil(TILE) * beside) as u32), CubeDim::new_1d(UNITS))
    }

    /// `x [b, heads, s, w]` by `y [b, keys, s, w]` to `[b, heads, s, s]`.
    pub fn of_pairs(self, x: &CubeTensor, y: &CubeTensor, ranges: &CubeTensor) -> CubeTensor {
        let Sizes { b, s, heads, .. } = self.sizes;
        let out = empty_of([b, heads, s, s], x.dtype, x);
        let (count, dim) = self.cubes(b * heads, s.div_ceil(TILE));
        let [x, y, ranges, to] = [x, y, ranges, &out].map(|x| x.clone().into_buffer_arg());
        pairs_kernel::launch(&out.client, count, dim, EACH, x, y, ranges, to, self.grid(), dtype_to_storage_type(out.dtype));
        out
    }

    /// `shares [b, heads, s, s]` by `y [b, keys, s, w]` to `[b, heads, s, w]`.
    pub fn over_keys(self, shares: &CubeTensor, y: &CubeTensor, ranges: &CubeTensor) -> CubeTensor {
        let Sizes { b, s, heads, width } = self.sizes;
        let out = empty_of([b, heads, s, width], shares.dtype, shares);
        let (count, dim) = self.cubes(b * heads, width.div_ceil(TILE));
        let [shares, y, ranges, to] = [shares, y, ranges, &out].map(|x| x.clone().into_buffer_arg());
        let dtype = dtype_to_storage_type(out.dtype);
        over_keys_kernel::launch(&out.client, count, dim, EACH, shares, y, ranges, to, self.grid(), dtype);
        out
    }

    /// `shares [b, heads, s, s]`, transposed, by `x [b, heads, s, w]` to `[b, keys, s, w]`.
    pub fn over_queries(self, shares: &CubeTensor, x: &CubeTensor, ranges: &CubeTensor) -> CubeTensor {
        let Sizes { b, s, width, .. } = self.sizes;
        let out = empty_of([b, self.keys, s, width], shares.dtype, shares);
        let (count, dim) = self.cubes(b * self.keys, width.div_ceil(TILE));
        let [shares, x, ranges, to] = [shares, x, ranges, &out].map(|x| x.clone().into_buffer_arg());
        let dtype = dtype_to_storage_type(out.dtype);
        over_queries_kernel::launch(&out.client, count, dim, EACH, shares, x, ranges, to, self.grid(), dtype);
        out
    }
}
