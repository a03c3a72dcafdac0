//! How this processor multiplies bf16, found when it is first asked.

use std::sync::OnceLock;

/// Who multiplies factors in bf16 on the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bf16Unit {
    /// AMX: tiles of 1 KiB.
    Amx,
    /// AVX512-BF16: vectors of 16 pairs.
    Avx512,
    /// NEON's `bfdot`: vectors of 4 pairs.
    Neon,
    /// The instructions of f32, on factors that were rounded.
    Rounded,
}

impl Bf16Unit {
    /// The fastest that the processor has and the system grants.
    pub fn here() -> Self {
        static FOUND: OnceLock<Bf16Unit> = OnceLock::new();
        *FOUND.get_or_init(find)
    }

    /// For a line that people read.
    pub fn words(self) -> &'static str {
        match self {
            Bf16Unit::Amx => "by AMX",
            Bf16Unit::Avx512 => "by AVX512-BF16",
            Bf16Unit::Neon => "by NEON's bfdot, whose speed was not measured",
            Bf16Unit::Rounded => "in f32, of rounded factors: no faster than f32 on this processor",
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn find() -> Bf16Unit {
    // Rounding into tiles takes these.
    if !(is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw")) {
        return Bf16Unit::Rounded;
    }
    match has_amx() && amx_is_granted() {
        true => Bf16Unit::Amx,
        // Intel's multiply pairs at half the rate of f32's single numbers (80 GFLOP/s a core beside 160 on a Xeon of
        // 2023), AMD's at the same rate.
        false if is_intel() => Bf16Unit::Rounded,
        false => Bf16Unit::Avx512,
    }
}

/// By CPUID's leaf 7: bit 22 of EDX is AMX-BF16, bit 24 AMX-TILE.
#[cfg(target_arch = "x86_64")]
fn has_amx() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const WANTED: u32 = 1 << 22 | 1 << 24;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & WANTED == WANTED
}

#[cfg(target_arch = "x86_64")]
fn is_intel() -> bool {
    let leaf = std::arch::x86_64::__cpuid(0);
    [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
}

/// Linux wants to be asked before it keeps a process's tiles: `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`.
/// What it grants counts for all threads.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn amx_is_granted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: asks the kernel; no memory of ours is read or written.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// How others grant it was not tried.
#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn amx_is_granted() -> bool {
    false
}

#[cfg(target_arch = "aarch64")]
fn find() -> Bf16Unit {
    if std::arch::is_aarch64_feature_detected!("bf16") { Bf16Unit::Neon } else { Bf16Unit::Rounded }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn find() -> Bf16Unit {
    Bf16Unit::Rounded
}
