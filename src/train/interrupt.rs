//! Ctrl-C and the signals that ask a process to end.
//!
//! While a command has something to save ([`saving`]), the first asks its loop to save and end, and a second one ends
//! the process at once. Everywhere else the first one does. A signal that was ignored when the process began (`nohup`,
//! a shell's background job) stays ignored.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
#[cfg(any(unix, windows))]
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::files::Busy;
use crate::log::Console;

static ASKED: AtomicBool = AtomicBool::new(false);
static SAVING: AtomicUsize = AtomicUsize::new(0);

/// How often a person is told what is waited for.
#[cfg(any(unix, windows))]
const REMIND_EVERY: Duration = Duration::from_secs(10);

/// For as long as it lives, the first signal asks for a stop ([`interrupted`]) in place of ending the process.
pub struct Saving(());

/// Says that this process has something to save before it ends.
#[must_use = "it counts for as long as it lives"]
pub fn saving() -> Saving {
    SAVING.fetch_add(1, Ordering::SeqCst);
    Saving(())
}

impl Drop for Saving {
    fn drop(&mut self) {
        SAVING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether a stop was asked for.
pub fn interrupted() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// Starts listening for Ctrl-C and for requests to end. For a command's `main`, once.
pub fn catch_interrupts() {
    #[cfg(unix)]
    unix::listen();
    // A second handler in one process is refused; then the first one goes on listening.
    #[cfg(windows)]
    let _ = ctrlc::set_handler(|| asked_to_end(130));
}

/// One request to end: `code` is the process's exit code if it ends at once.
#[cfg(any(unix, windows))]
fn asked_to_end(code: i32) {
    if SAVING.load(Ordering::SeqCst) == 0 || ASKED.swap(true, Ordering::SeqCst) {
        end(code);
    }
    eprintln!("\nstopping once the step that runs is done and everything is saved (again to stop at once)");
    let asked = Instant::now();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(REMIND_EVERY);
            eprintln!("still waiting for the step that runs, for {} s (again to stop at once)", asked.elapsed().as_secs());
        }
    });
}

/// Removes what this process has half-made, and ends it.
#[cfg(any(unix, windows))]
fn end(code: i32) -> ! {
    crate::files::remove_half_made();
    std::process::exit(code)
}

/// What is done while another process has what this one needs: said once, and left with Ctrl-C.
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

#[cfg(unix)]
mod unix {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    /// Exit code of a process that a signal ended, as shells give it.
    fn code(signal: i32) -> i32 {
        128 + signal
    }

    pub(super) fn listen() {
        say_what_a_bus_error_is();
        let signals: Vec<i32> = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal)).collect();
        // Once the process is ending, another signal does not wait for it.
        let is_ending = Arc::new(AtomicBool::new(false));
        for &signal in &signals {
            // Refused only for signals that can't be caught, which these are not.
            let _ = signal_hook::flag::register_conditional_shutdown(signal, code(signal), Arc::clone(&is_ending));
        }
        let Ok(mut incoming) = Signals::new(&signals) else { return };
        std::thread::spawn(move || {
            let mut count = 0;
            for signal in incoming.forever() {
                count += 1;
                is_ending.store(count > 1, Ordering::SeqCst);
                super::asked_to_end(code(signal));
            }
        });
    }

    /// Whether the process was started with this signal ignored.
    fn is_ignored(signal: i32) -> bool {
        // SAFETY: with no new action, sigaction only writes the present one into `present`, which is zeroed plain data.
        unsafe {
            let mut present: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &raw mut present) == 0 && present.sa_sigaction == libc::SIG_IGN
        }
    }

    /// Data files are read through memory maps: a file that is cut short meanwhile, or a disk that fails, comes as a
    /// bus error.
    fn say_what_a_bus_error_is() {
        extern "C" fn told(_: i32) {
            const WORDS: &str = "error: a data file was cut short while it was read, or its disk failed\n\
                help: `upstill data show FOLDER` says whether data is whole; a run that was training goes on with --resume\n";
            // SAFETY: write and _exit may be called from a signal handler, and WORDS lives as long as the process.
            unsafe {
                libc::write(2, WORDS.as_ptr().cast(), WORDS.len());
                libc::_exit(2);
            }
        }
        // SAFETY: the handler calls nothing but what a signal handler may; the rest of the action is zeroed plain data.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = told as extern "C" fn(i32) as usize;
            libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
        }
    }
}
