//! How a tensor's numbers are kept, and made f32: as they are, or in blocks of 32 with a scale, as ggml lays them out.

use half::{bf16, f16};

/// Numbers of a block.
const BLOCK: usize = 32;

/// A type that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F32,
    F16,
    Bf16,
    /// 4 bits, less 8, times a scale.
    Q4_0,
    /// 4 bits times a scale, and a least value.
    Q4_1,
    /// 8 bits, signed, times a scale.
    Q8_0,
}

impl Kind {
    /// Those that there are, for messages.
    pub const NAMES: &str = "F32, F16, BF16, Q8_0, Q4_0 and Q4_1";

    /// The type of a number in a file.
    ///
    /// # Errors
    /// The name of one that is not read.
    pub fn of(number: u32) -> Result<Self, String> {
        Ok(match number {
            0 => Kind::F32,
            1 => Kind::F16,
            2 => Kind::Q4_0,
            3 => Kind::Q4_1,
            8 => Kind::Q8_0,
            30 => Kind::Bf16,
            other => {
                let name = OTHERS.iter().find(|(known, _)| *known == other).map(|(_, name)| (*name).to_owned());
                return Err(name.unwrap_or_else(|| format!("{other}, which has no name here")));
            }
        })
    }

    /// Numbers of a block, and its bytes.
    pub fn block(self) -> (usize, usize) {
        match self {
            Kind::F32 => (1, 4),
            Kind::F16 | Kind::Bf16 => (1, 2),
            Kind::Q4_0 => (BLOCK, 2 + BLOCK / 2),
            Kind::Q4_1 => (BLOCK, 4 + BLOCK / 2),
            Kind::Q8_0 => (BLOCK, 2 + BLOCK),
        }
    }

    /// The numbers of whole blocks.
    pub fn unpack(self, bytes: &[u8]) -> Vec<f32> {
        let (values, held) = self.block();
        let mut out = Vec::with_capacity(bytes.len() / held * values);
        for block in bytes.chunks_exact(held) {
            let half = |at: usize| [block[at], block[at + 1]];
            let scale = |at: usize| f16::from_le_bytes(half(at)).to_f32();
            // The low halves of all bytes, then the high ones.
            let halves = |at: usize| {
                let packed = &block[at..];
                packed.iter().map(|byte| byte & 15).chain(packed.iter().map(|byte| byte >> 4))
            };
            match self {
                Kind::F32 => out.push(f32::from_le_bytes([block[0], block[1], block[2], block[3]])),
                Kind::F16 => out.push(scale(0)),
                Kind::Bf16 => out.push(bf16::from_le_bytes(half(0)).to_f32()),
                Kind::Q8_0 => out.extend(block[2..].iter().map(|&byte| scale(0) * f32::from(byte as i8))),
                Kind::Q4_0 => out.extend(halves(2).map(|four| scale(0) * (f32::from(four) - 8.0))),
                Kind::Q4_1 => out.extend(halves(4).map(|four| scale(0) * f32::from(four) + scale(2))),
            }
        }
        out
    }
}

/// What ggml calls the types that are not read.
const OTHERS: [(u32, &str); 28] = [
    (6, "Q5_0"),
    (7, "Q5_1"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (12, "Q4_K"),
    (13, "Q5_K"),
    (14, "Q6_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_scaled_from_their_low_halves_on() {
        let two = f16::from_f32(2.0).to_le_bytes();
        let packed: Vec<u8> = (0..16u8).map(|at| at | (15 - at) << 4).collect();
        let q4_0 = Kind::Q4_0.unpack(&[&two[..], &packed].concat());
        assert_eq!((q4_0.len(), q4_0[0], q4_0[15], q4_0[16], q4_0[31]), (32, -16.0, 14.0, 14.0, -16.0));
        let least = f16::from_f32(-0.5).to_le_bytes();
        let q4_1 = Kind::Q4_1.unpack(&[&two[..], &least, &packed].concat());
        assert_eq!((q4_1[0], q4_1[15], q4_1[16], q4_1[31]), (-0.5, 29.5, 29.5, -0.5));
        let eight: Vec<u8> = (0..32).map(|at| if at == 1 { 0xff } else { at }).collect();
        let q8_0 = Kind::Q8_0.unpack(&[&two[..], &eight].concat().repeat(2));
        assert_eq!((q8_0.len(), q8_0[1], q8_0[31], q8_0[33]), (64, -2.0, 62.0, -2.0));
        assert_eq!(Kind::Bf16.unpack(&bf16::from_f32(1.5).to_le_bytes()), [1.5]);
        assert_eq!(Kind::of(12).unwrap_err(), "Q4_K");
    }
}
