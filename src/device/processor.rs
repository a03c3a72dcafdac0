//! The processor, as far as it decides how sums are rounded.

/// The processor's own name where the system tells it, else its architecture.
pub fn processor_name() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = told.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    named.map_or(std::env::consts::ARCH.to_owned(), |(_, name)| name.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The processor's name and its widest vectors: results of the same text and as many threads are the same to the bit.
/// The name alone is not enough, as virtual machines give one name to processors of several kinds.
pub fn processor() -> String {
    let sets = instructions();
    let widest = ["avx512f", "avx2", "avx", "sve", "neon"].into_iter().find(|set| sets.contains(set));
    widest.map_or_else(processor_name, |widest| format!("{} ({widest})", processor_name()))
}

/// The instruction sets that decide how fast products are, and how they are rounded.
pub fn instructions() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! known {
            ($($name:tt),+) => { [$(($name, std::arch::is_x86_feature_detected!($name))),+] };
        }
        let all = known!("sse4.2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512vnni", "avx512bf16");
        all.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
    }
    #[cfg(target_arch = "aarch64")]
    {
        macro_rules! known {
            ($($name:tt),+) => { [$(($name, std::arch::is_aarch64_feature_detected!($name))),+] };
        }
        let all = known!("neon", "fp16", "dotprod", "bf16", "i8mm", "sve", "sve2");
        all.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    Vec::new()
}
