//! Where a step's time goes: while somebody asks, our operations add up their wall time, forward and backward. A GPU is
//! then waited for before and after each, which makes the step longer, and its shares true.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

static ASKED: AtomicBool = AtomicBool::new(false);
static NANOSECONDS: [AtomicU64; 6] = [const { AtomicU64::new(0) }; 6];

/// What an operation counts as.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// Dense layers, GELU included, and LSTMs.
    Dense,
    Attention,
    Norm,
    /// The loss, with the products of the head.
    Loss,
    Optimizer,
    /// Rows of tables, and their gradients.
    LookUp,
}

/// Seconds by part.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spent {
    /// Dense layers, GELU included, and LSTMs.
    pub dense_s: f64,
    /// Attention between its dense layers.
    pub attention_s: f64,
    /// Layer norms, with dropout and residual.
    pub norm_s: f64,
    /// The loss, with the products of the head.
    pub loss_s: f64,
    /// The optimizer's pass and the gradient norm's.
    pub optimizer_s: f64,
    /// Rows of tables and their gradients.
    pub look_up_s: f64,
}

thread_local! {
    /// What the operations inside the present one took, in nanoseconds.
    static INSIDE: Cell<u64> = const { Cell::new(0) };
}

impl Spent {
    /// A step's, of so many steps.
    #[must_use]
    pub fn over(self, steps: usize) -> Self {
        let Self { dense_s, attention_s, norm_s, loss_s, optimizer_s, look_up_s } = self;
        let [dense_s, attention_s, norm_s, loss_s, optimizer_s, look_up_s] =
            [dense_s, attention_s, norm_s, loss_s, optimizer_s, look_up_s].map(|all| all / steps as f64);
        Self { dense_s, attention_s, norm_s, loss_s, optimizer_s, look_up_s }
    }
}

/// Does the work of an operation. What an operation inside it takes counts as that one's alone.
pub(super) fn on<T>(part: Part, work: impl FnOnce() -> T) -> T {
    on_device(part, || (), work)
}

/// Does an operation on the GPU of `x`, and counts the time until the GPU has done it.
#[cfg(feature = "gpu")]
pub(super) fn on_gpu<T>(part: Part, x: &burn_cubecl::tensor::CubeTensor, work: impl FnOnce() -> T) -> T {
    let client = x.client.clone();
    // A device that is lost says so where its numbers are read.
    on_device(part, move || drop(crate::device::wait(client.sync())), work)
}

fn on_device<T>(part: Part, wait: impl Fn(), work: impl FnOnce() -> T) -> T {
    if !ASKED.load(Ordering::Relaxed) {
        return work();
    }
    let (done, own) = own(wait, work);
    NANOSECONDS[part as usize].fetch_add(own, Ordering::Relaxed);
    done
}

/// Does some work, and gives the nanoseconds that it took by itself, less those of what was timed inside it.
fn own<T>(wait: impl Fn(), work: impl FnOnce() -> T) -> (T, u64) {
    wait();
    let outside = INSIDE.replace(0);
    let started = Instant::now();
    let done = work();
    wait();
    let taken = started.elapsed().as_nanos() as u64;
    let inside = INSIDE.replace(outside + taken);
    (done, taken.saturating_sub(inside))
}

/// Does some work and says what our operations took of it. All threads count: nothing else should train meanwhile.
pub fn spent<T>(work: impl FnOnce() -> T) -> (T, Spent) {
    NANOSECONDS.iter().for_each(|all| all.store(0, Ordering::Relaxed));
    ASKED.store(true, Ordering::Relaxed);
    let done = work();
    ASKED.store(false, Ordering::Relaxed);
    let [dense_s, attention_s, norm_s, loss_s, optimizer_s, look_up_s] =
        NANOSECONDS.each_ref().map(|all| all.load(Ordering::Relaxed) as f64 / 1e9);
    (done, Spent { dense_s, attention_s, norm_s, loss_s, optimizer_s, look_up_s })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However busy the machine is: what is timed once adds up to no more than passed.
    #[test]
    fn work_inside_other_work_is_timed_once() {
        let nothing = || ();
        let sleep = || std::thread::sleep(std::time::Duration::from_millis(20));
        let started = Instant::now();
        let (inner, outer) = own(nothing, || [own(nothing, sleep).1, own(nothing, sleep).1]);
        let passed = started.elapsed().as_nanos() as u64;
        assert!(inner.iter().all(|own| *own >= 20_000_000), "{inner:?}");
        assert!(outer + inner[0] + inner[1] <= passed, "{outer} and {inner:?} of {passed}");
    }
}
