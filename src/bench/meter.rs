//! Time and peak memory of a piece of work.

use std::time::Instant;

/// What a piece of work took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub seconds: f64,
    /// Resident memory at its highest, over what it was before.
    pub peak_bytes: Option<u64>,
}

/// Rounds of a benchmark: the first warms up and counts for nothing, the second counts for memory, the others for time.
pub(super) const MEMORY_ROUND: usize = 1;

/// What the round for memory found, and the seconds of the others.
pub(super) fn memory_and_seconds(taken: &[Taken]) -> (Option<u64>, Vec<f64>) {
    let Some((memory, timed)) = taken.split_first() else { return (None, Vec::new()) };
    (memory.peak_bytes, timed.iter().map(|one| one.seconds).collect())
}

/// Runs a piece of work and says what it took. In the round for memory, what the allocator has kept for later is handed
/// back first, so that it counts when it is taken again; taking it costs time.
pub(super) fn measure(round: usize, work: impl FnOnce()) -> Taken {
    if round == MEMORY_ROUND {
        hand_back();
    }
    // Writing 5 resets the high-water mark (Linux); elsewhere there is none.
    let before = std::fs::write("/proc/self/clear_refs", "5").ok().and_then(|()| status_bytes("VmRSS:"));
    let started = Instant::now();
    work();
    let seconds = started.elapsed().as_secs_f64();
    let peak_bytes = before.and_then(|before| Some(status_bytes("VmHWM:")?.saturating_sub(before)));
    Taken { seconds, peak_bytes }
}

fn hand_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> i32;
        }
        // SAFETY: gives free memory back to the system; nothing else changes.
        unsafe { malloc_trim(0) };
    }
}

fn status_bytes(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix(field))?.trim().strip_suffix(" kB")?;
    Some(kib.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_touched_is_counted() {
        let touch = |_| {
            measure(MEMORY_ROUND, || {
                std::hint::black_box(vec![1u8; 64 << 20]);
            })
        };
        // Where the system says nothing there is nothing to hold it to. Allocators round up. Other tests of this
        // process take and give back memory meanwhile: one round of several has to be undisturbed.
        let is_right = |taken: &Taken| taken.peak_bytes.is_none_or(|bytes| (60 << 20..200 << 20).contains(&bytes));
        let rounds: Vec<Taken> = (0..8).map(touch).collect();
        assert!(rounds.iter().any(is_right), "{rounds:?}");
    }
}
