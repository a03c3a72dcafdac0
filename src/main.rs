//! The `upstill` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    keep_memory();
    // On a thread of the pool: from outside, each of a step's hundreds of parallel parts would wait for two wake-ups
    // (10 to 15 % of a small step's time).
    rayon::scope(|_| upstill::cli::main())
}

/// Has glibc keep what is freed: a step frees and takes the same tensors again, and pages handed back and forth cost a
/// fifth of a small step's time (`upstill bench step`, before and after). Other allocators keep memory anyway.
fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // From glibc's malloc.h.
        const M_TRIM_THRESHOLD: i32 = -1;
        const M_TOP_PAD: i32 = -2;
        const M_MMAP_THRESHOLD: i32 = -3;
        unsafe extern "C" {
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        // SAFETY: sets numbers of the allocator, before any other thread is started.
        unsafe {
            mallopt(M_MMAP_THRESHOLD, 32 << 20);
            mallopt(M_TRIM_THRESHOLD, i32::MAX);
            mallopt(M_TOP_PAD, 64 << 20);
        }
    }
}
