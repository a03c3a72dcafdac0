//! Where a step's time goes on the CPU: while somebody asks, our operations add up their wall time, forward and backward.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

static ASKED: AtomicBool = AtomicBool::new(false);
static NANOSECONDS: [AtomicU64; 6] = [const { AtomicU64::new(0) }; 6];

/// What an operation counts as.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// Dense layers, GELU included.
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
    /// Dense layers, GELU included.
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

/// Does the work of an operation.
pub(super) fn on<T>(part: Part, work: impl FnOnce() -> T) -> T {
    if !ASKED.load(Ordering::Relaxed) {
        return work();
    }
    let started = Instant::now();
    let done = work();
    NANOSECONDS[part as usize].fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
    done
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
