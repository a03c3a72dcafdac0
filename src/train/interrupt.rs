//! Ctrl-C: the first asks the loop to save and end, a second ends at once.

use std::sync::atomic::{AtomicUsize, Ordering};

static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Starts listening for Ctrl-C (and for a request to terminate). For a command's `main`, once.
pub fn catch_interrupts() {
    // A second handler in one process is refused; then the first one goes on listening.
    #[cfg(not(target_family = "wasm"))]
    let _ = ctrlc::set_handler(|| {
        if ASKED.fetch_add(1, Ordering::SeqCst) > 0 {
            std::process::exit(130);
        }
        eprintln!("\nstopping as soon as everything is saved (again to stop at once)");
    });
}

/// Whether a stop was asked for.
pub fn interrupted() -> bool {
    ASKED.load(Ordering::SeqCst) > 0
}
