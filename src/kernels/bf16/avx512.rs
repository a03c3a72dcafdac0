//! AVX512-BF16: rounding into tiles, and products of pairs added to 16 sums at a time.

use std::arch::x86_64::*;

use super::BLOCK;
use super::block::{Block, TILE, WIDE};

/// A row of 16 words in which the first half of 32 numbers alternates with the second.
const INTERLEAVED: [u16; 32] = {
    let mut order = [0; 32];
    let mut at = 0;
    while at < 32 {
        order[at] = (at / 2 + at % 2 * 16) as u16;
        at += 1;
    }
    order
};

/// Whether the processor has its instructions.
pub(super) fn is_there() -> bool {
    is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw")
}

/// The first `count` lanes, at most 16.
fn lanes(count: usize) -> __mmask16 {
    ((1u32 << count.min(16)) - 1) as __mmask16
}

/// Writes 16 rows of 32 numbers that lie beside each other, as a tile of 16 rows; what is past `rows` and `columns` is
/// 0. Straight to memory, as all here does: compilers move tiles that are values through memory several times.
///
/// # Safety
/// The instructions are there; `from` can be read as so many rows and columns, rows `stride` apart; the tile can be
/// written.
#[target_feature(enable = "avx512bf16,avx512bw")]
pub(super) unsafe fn rows(from: *const f32, stride: usize, [rows, columns]: [usize; 2], tile: *mut u16) {
    let (low, high) = (lanes(columns), lanes(columns.saturating_sub(16)));
    for row in 0..16 {
        // SAFETY: the lanes that are read are within a row that is there; a tile has 16 rows.
        unsafe {
            let words = match row < rows {
                true => {
                    let at = from.add(row * stride);
                    let second = _mm512_maskz_loadu_ps(high, at.wrapping_add(16));
                    word(_mm512_cvtne2ps_pbh(second, _mm512_maskz_loadu_ps(low, at)))
                }
                false => _mm512_setzero_si512(),
            };
            _mm512_store_si512(tile.add(row * WIDE).cast(), words);
        }
    }
}

/// Writes 32 rows of 16 numbers that lie beside each other, as a tile of 16 rows of pairs: of two rows each.
///
/// # Safety
/// As [`rows`].
#[target_feature(enable = "avx512bf16,avx512bw")]
pub(super) unsafe fn pairs(from: *const f32, stride: usize, [rows, columns]: [usize; 2], tile: *mut u16) {
    let mask = lanes(columns);
    // SAFETY: 64 bytes.
    let order = unsafe { _mm512_loadu_si512(INTERLEAVED.as_ptr().cast()) };
    let read = |row: usize| match row < rows {
        // SAFETY: the lanes that are read are within a row that is there.
        true => unsafe { _mm512_maskz_loadu_ps(mask, from.add(row * stride)) },
        false => _mm512_setzero_ps(),
    };
    for pair in 0..16 {
        let both = _mm512_cvtne2ps_pbh(read(2 * pair + 1), read(2 * pair));
        // SAFETY: a tile has 16 rows.
        unsafe { _mm512_store_si512(tile.add(pair * WIDE).cast(), _mm512_permutexvar_epi16(order, word(both))) };
    }
}

/// Transposes a tile's words where it lies.
///
/// # Safety
/// The instructions are there; the tile can be read and written.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn transpose(tile: *mut u16) {
    // SAFETY: a tile has 16 rows.
    unsafe {
        let row = |row: usize| tile.add(row * WIDE).cast::<__m512i>();
        let words = transposed(std::array::from_fn(|at| _mm512_load_si512(row(at))));
        for (at, words) in words.into_iter().enumerate() {
            _mm512_store_si512(row(at), words);
        }
    }
}

/// A row of 32 numbers of two others: alternating, the first halves of both, or the second halves.
const ALTERNATING: [[u16; 32]; 2] = {
    let mut orders = [[0; 32]; 2];
    let mut at = 0;
    while at < 64 {
        // From 32 on, the second row's.
        orders[at / 32][at % 32] = (at / 2 + at % 2 * 32) as u16;
        at += 1;
    }
    orders
};

/// 32 rows of 32 numbers that lie beside each other, times `factors` that lie alike where there are any, as the rows of
/// two tiles; what is past `rows` and `columns` is 0. The sums of the columns go to `sums`.
///
/// # Safety
/// As [`rows`], and `factors` likewise; so many columns of `sums`, and both tiles, can be written.
#[target_feature(enable = "avx512bf16,avx512bw")]
pub(super) unsafe fn square(
    from: *const f32,
    factors: Option<*const f32>,
    stride: usize,
    [rows, columns]: [usize; 2],
    tiles: [*mut u16; 2],
    sums: *mut f32,
) {
    let (low, high) = (lanes(columns), lanes(columns.saturating_sub(16)));
    let mut totals = [_mm512_setzero_ps(); 2];
    // SAFETY: the lanes that are read and written are within rows that are there.
    unsafe {
        let read = |at: *const f32| [_mm512_maskz_loadu_ps(low, at), _mm512_maskz_loadu_ps(high, at.wrapping_add(16))];
        for row in 0..2 * 16 {
            let to: *mut __m512i = tiles[row / 16].add(row % 16 * WIDE).cast();
            if row >= rows {
                _mm512_store_si512(to, _mm512_setzero_si512());
                continue;
            }
            let mut values = read(from.add(row * stride));
            if let Some(factors) = factors {
                let factors = read(factors.add(row * stride));
                values = [_mm512_mul_ps(values[0], factors[0]), _mm512_mul_ps(values[1], factors[1])];
            }
            totals = [_mm512_add_ps(totals[0], values[0]), _mm512_add_ps(totals[1], values[1])];
            _mm512_store_si512(to, word(_mm512_cvtne2ps_pbh(values[1], values[0])));
        }
        _mm512_mask_storeu_ps(sums, low, totals[0]);
        _mm512_mask_storeu_ps(sums.wrapping_add(16), high, totals[1]);
    }
}

/// Writes the tile of pairs of a square's rows, which two tiles hold: of its first 16 columns or of the others; or that
/// tile transposed.
///
/// # Safety
/// The instructions are there; both tiles can be read and `to` be written.
#[target_feature(enable = "avx512bw")]
pub(super) unsafe fn turn(tiles: [*const u16; 2], half: usize, transposes: bool, to: *mut u16) {
    // SAFETY: 64 bytes.
    let order = unsafe { _mm512_loadu_si512(ALTERNATING[half].as_ptr().cast()) };
    // SAFETY: a tile has 16 rows.
    let pairs = |pair: usize| unsafe {
        let from = tiles[pair / 8].add(pair % 8 * 2 * WIDE);
        _mm512_permutex2var_epi16(_mm512_load_si512(from.cast()), order, _mm512_load_si512(from.add(WIDE).cast()))
    };
    let mut tile = [_mm512_setzero_si512(); 16];
    for (pair, out) in tile.iter_mut().enumerate() {
        *out = pairs(pair);
    }
    if transposes {
        tile = transposed(tile);
    }
    for (row, words) in tile.iter().enumerate() {
        // SAFETY: as above.
        unsafe { _mm512_stream_si512(to.add(row * WIDE).cast(), *words) };
    }
}

/// Other threads see what was written past the caches after this.
pub(super) fn fence() {
    // SAFETY: every x86-64 has it.
    unsafe { _mm_sfence() };
}

fn word(x: __m512bh) -> __m512i {
    // SAFETY: both are 64 bytes without a meaning of their own.
    unsafe { std::mem::transmute(x) }
}

/// The 16 rows of 16 words, transposed.
#[target_feature(enable = "avx512f")]
#[inline]
fn transposed(x: [__m512i; 16]) -> [__m512i; 16] {
    let mut twos = [_mm512_setzero_si512(); 16];
    for at in 0..8 {
        twos[2 * at] = _mm512_unpacklo_epi32(x[2 * at], x[2 * at + 1]);
        twos[2 * at + 1] = _mm512_unpackhi_epi32(x[2 * at], x[2 * at + 1]);
    }
    // Of rows 4 at to 4 at + 3: in lane l of fours[4 at + w], the column 4 l + w.
    let mut fours = [_mm512_setzero_si512(); 16];
    for at in 0..4 {
        for high in 0..2 {
            let (first, second) = (twos[4 * at + high], twos[4 * at + 2 + high]);
            fours[4 * at + 2 * high] = _mm512_unpacklo_epi64(first, second);
            fours[4 * at + 2 * high + 1] = _mm512_unpackhi_epi64(first, second);
        }
    }
    let mut out = [_mm512_setzero_si512(); 16];
    for w in 0..4 {
        let (a, b, c, d) = (fours[w], fours[4 + w], fours[8 + w], fours[12 + w]);
        let even_ab = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b); // lanes a0 a2 b0 b2
        let even_cd = _mm512_shuffle_i32x4::<0b10_00_10_00>(c, d);
        let odd_ab = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b); // a1 a3 b1 b3
        let odd_cd = _mm512_shuffle_i32x4::<0b11_01_11_01>(c, d);
        out[w] = _mm512_shuffle_i32x4::<0b10_00_10_00>(even_ab, even_cd); // a0 b0 c0 d0
        out[8 + w] = _mm512_shuffle_i32x4::<0b11_01_11_01>(even_ab, even_cd);
        out[4 + w] = _mm512_shuffle_i32x4::<0b10_00_10_00>(odd_ab, odd_cd);
        out[12 + w] = _mm512_shuffle_i32x4::<0b11_01_11_01>(odd_ab, odd_cd);
    }
    out
}

/// Rows whose sums are in registers at a time, with two registers each.
const ROWS: usize = 8;

/// The product of 32 rows and 32 columns; see [`Block`].
///
/// # Safety
/// The instructions are there.
#[target_feature(enable = "avx512bf16,avx512bw")]
pub(super) unsafe fn block(block: Block) {
    let Block { left, right, inner, sums, row_stride, adds } = block;
    for from in (0..BLOCK).step_by(ROWS) {
        let (tile, row) = (left[from / 16], from % 16);
        // SAFETY: a `Block` says that its tiles can be read and its sums written.
        unsafe {
            let place = |r: usize, column: usize| sums.add((from + r) * row_stride + 16 * column);
            let mut totals = [[_mm512_setzero_ps(); 2]; ROWS];
            if adds {
                for (r, totals) in totals.iter_mut().enumerate() {
                    *totals = [_mm512_loadu_ps(place(r, 0)), _mm512_loadu_ps(place(r, 1))];
                }
            }
            for at in 0..inner {
                let left = tile.add(at * TILE + row * WIDE);
                let (first, second) = (right[0].add(at * TILE), right[1].add(at * TILE));
                for pair in 0..16 {
                    let columns = [first, second].map(|right| bf16s(_mm512_loadu_si512(right.add(pair * WIDE).cast())));
                    for (r, totals) in totals.iter_mut().enumerate() {
                        let both = left.add(r * WIDE + 2 * pair).cast::<i32>().read_unaligned();
                        let both = bf16s(_mm512_set1_epi32(both));
                        totals[0] = _mm512_dpbf16_ps(totals[0], both, columns[0]);
                        totals[1] = _mm512_dpbf16_ps(totals[1], both, columns[1]);
                    }
                }
            }
            for (r, totals) in totals.into_iter().enumerate() {
                _mm512_storeu_ps(place(r, 0), totals[0]);
                _mm512_storeu_ps(place(r, 1), totals[1]);
            }
        }
    }
}

fn bf16s(x: __m512i) -> __m512bh {
    // SAFETY: as in `word`.
    unsafe { std::mem::transmute(x) }
}
