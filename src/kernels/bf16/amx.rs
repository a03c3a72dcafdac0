//! AMX: eight registers of 1 KiB each, and an instruction that multiplies two of them into a third.

use std::arch::asm;

use super::BLOCK;
use super::block::{Block, ROW_BYTES, TILE_BYTES};

/// The tile registers of the present thread, all of 16 rows of 64 bytes, until this is dropped.
pub(super) struct Tiles(());

impl Tiles {
    /// # Safety
    /// The processor has AMX, and the system has granted it.
    pub(super) unsafe fn take() -> Self {
        /// Palette 1, then the bytes of a row and the rows of each register.
        #[repr(C, align(64))]
        struct Config {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        let mut config = Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        config.row_bytes[..8].fill(64);
        config.rows[..8].fill(16);
        // SAFETY: the instruction reads the 64 bytes of `config`.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly, preserves_flags)) };
        Self(())
    }

    /// The product of 32 rows and 32 columns; see [`Block`].
    pub(super) fn block(&self, block: Block) {
        let Block { left, right, inner, sums, row_stride, adds } = block;
        // SAFETY: a `Block` says that its tiles can be read and its sums written; the registers are this thread's.
        unsafe {
            asm!(
                "test {adds}, {adds}",
                "jz 3f",
                "tileloadd tmm0, [{c0} + {bytes}]",
                "tileloadd tmm1, [{c0} + {bytes} + 64]",
                "tileloadd tmm2, [{c1} + {bytes}]",
                "tileloadd tmm3, [{c1} + {bytes} + 64]",
                "jmp 2f",
                "3:",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{a0} + {row}]",
                "tileloadd tmm6, [{b0} + {row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b1} + {row}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a1} + {row}]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a0}, {tile}",
                "add {a1}, {tile}",
                "add {b0}, {tile}",
                "add {b1}, {tile}",
                "dec {count}",
                "jnz 2b",
                "tilestored [{c0} + {bytes}], tmm0",
                "tilestored [{c0} + {bytes} + 64], tmm1",
                "tilestored [{c1} + {bytes}], tmm2",
                "tilestored [{c1} + {bytes} + 64], tmm3",
                adds = in(reg) u64::from(adds),
                a0 = inout(reg) left[0] => _,
                a1 = inout(reg) left[1] => _,
                b0 = inout(reg) right[0] => _,
                b1 = inout(reg) right[1] => _,
                count = inout(reg) inner => _,
                row = in(reg) ROW_BYTES,
                tile = const TILE_BYTES,
                c0 = in(reg) sums,
                c1 = in(reg) sums.add(BLOCK / 2 * row_stride),
                bytes = in(reg) row_stride * size_of::<f32>(),
                options(nostack),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: gives the registers back, so that the system need not save them.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}
