//! Ctrl-C: the first asks the loop to save and end, a second ends at once.

use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(not(target_family = "wasm"))]
use crate::error::{Error, Result};
#[cfg(not(target_family = "wasm"))]
use crate::files::Busy;
#[cfg(not(target_family = "wasm"))]
use crate::log::Console;

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

/// What is done while another process has what this one needs: said once, and left with Ctrl-C.
#[cfg(not(target_family = "wasm"))]
pub fn waiting<'a>(console: &'a Console, what: &'a str) -> impl FnMut(Busy) -> Result<()> + 'a {
    let mut has_said = false;
    move |busy| {
        if interrupted() {
            return Err(Error::interrupted(format!("stopped while {} has {what}", busy.whose())).help("the same command goes on"));
        }
        // A thread of this process is on the screen already.
        if busy.process != Some(std::process::id()) && !std::mem::replace(&mut has_said, true) {
            console.note(&format!("{} has {what}: waiting for it", busy.whose()));
        }
        Ok(())
    }
}
