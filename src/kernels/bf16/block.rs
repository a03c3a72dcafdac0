//! Tiles of bf16 in memory, and a product of some of them: what AMX and AVX-512 are given.

/// Numbers in a row of a tile.
pub(super) const WIDE: usize = 32;
/// Numbers in a tile of 16 rows.
pub(super) const TILE: usize = 16 * WIDE;
pub(super) const TILE_BYTES: usize = TILE * size_of::<u16>();
pub(super) const ROW_BYTES: usize = WIDE * size_of::<u16>();

/// 32 rows by 32 columns of a product: `sums`, rows `row_stride` apart, are the products of two panels of either factor
/// over `inner` tiles, one at least, and are added to what is there or replace it. Whoever makes one promises that all
/// of it can be read and written.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub left: [*const u16; 2],
    pub right: [*const u16; 2],
    pub inner: usize,
    pub sums: *mut f32,
    pub row_stride: usize,
    pub adds: bool,
}
