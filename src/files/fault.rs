//! A disk that fails when a test says so: from some write on, nothing is written any more.

use std::cell::Cell;

use crate::error::{Error, Result};

thread_local! {
    /// Writes of this thread that still succeed; none where nothing is to fail.
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
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
