//! A disk that fails when a test says so: from some write on, nothing is written any more; or one without locks.

use std::cell::Cell;

use crate::error::{Error, Result};

thread_local! {
    /// Writes of this thread that still succeed; none where nothing is to fail.
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    /// Whether the file system has no locks, for this thread.
    static WITHOUT_LOCKS: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` as on a file system without locks.
pub(super) fn without_locks<T>(work: impl FnOnce() -> T) -> T {
    WITHOUT_LOCKS.set(true);
    let done = work();
    WITHOUT_LOCKS.set(false);
    done
}

/// Whether there are no locks.
pub(super) fn is_without_locks() -> bool {
    WITHOUT_LOCKS.get()
}

/// Runs `work`; this thread's first `writes` calls that write succeed, and none after.
pub fn failing_after<T>(writes: usize, work: impl FnOnce() -> T) -> T {
    LEFT.set(Some(writes));
    let done = work();
    LEFT.set(None);
    done
}

/// Before a write.
pub(super) fn next_write() -> Result<()> {
    match LEFT.get() {
        None => Ok(()),
        Some(0) => Err(Error::new("the disk was told to fail")),
        Some(left) => {
            LEFT.set(Some(left - 1));
            Ok(())
        }
    }
}
