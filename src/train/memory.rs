//! Running out of a device's memory: half as many rows at once, and on.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::device::{is_about_memory, out_of_memory};
use crate::error::Result;

/// Tries with `rows` rows at once, and with half as many each time that memory runs out, down to one. `note` is told.
///
/// # Errors
/// The attempt's, when it is about something else, or when not even one row fits.
pub(super) fn with_fewer_rows<T>(mut rows: usize, note: impl Fn(&str), mut attempt: impl FnMut(usize) -> Result<T>) -> Result<T> {
    loop {
        match caught(|| attempt(rows)) {
            Err(error) if error.is_out_of_memory() && rows > 1 => {
                let fewer = rows.div_ceil(2);
                note(&format!("{rows} rows at once do not fit the device's memory: going on with {fewer} (runtime.micro_batch)"));
                rows = fewer;
            }
            Err(error) if error.is_out_of_memory() => {
                return Err(error.help("not even one row fits: make the model or data.length smaller, or use another device"));
            }
            other => return other,
        }
    }
}

/// A panic about memory as an error: burn gives up so where an operation can't return one.
fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // What the work had changed is dropped with it: an attempt starts from a checkpoint.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied()).unwrap_or("");
        match is_about_memory(text) {
            true => Err(out_of_memory(text)),
            false => resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::error::Error;

    /// A device with room for so many rows, which fails as an error or as a panic.
    fn try_with(room: usize, panics: bool) -> (Result<usize>, Vec<usize>, Vec<String>) {
        let (tried, notes) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let attempt = |rows: usize| {
            tried.borrow_mut().push(rows);
            let words = "Out of memory: cuMemAlloc";
            match rows > room {
                true if panics => panic!("a tensor: {words}"),
                true => Err(out_of_memory(words)),
                false => Ok(rows),
            }
        };
        let found = with_fewer_rows(24, |note| notes.borrow_mut().push(note.to_owned()), attempt);
        (found, tried.into_inner(), notes.into_inner())
    }

    #[test]
    fn rows_are_halved_until_they_fit() {
        for panics in [false, true] {
            let (found, tried, notes) = try_with(5, panics);
            assert_eq!((found.unwrap(), tried), (3, vec![24, 12, 6, 3]));
            assert!(notes[0].contains("24 rows at once do not fit") && notes[0].contains("going on with 12"), "{notes:?}");
            let (found, tried, _) = try_with(0, panics);
            assert!(found.unwrap_err().to_string().contains("not even one row fits"));
            assert_eq!(tried.last(), Some(&1));
        }
        assert_eq!(try_with(24, false).1, [24]);
    }

    #[test]
    fn other_failures_are_passed_on() {
        let tries = RefCell::new(0);
        let attempt = |_| -> Result<()> {
            *tries.borrow_mut() += 1;
            Err(Error::new("the disk is full"))
        };
        assert_eq!(with_fewer_rows(8, |_| (), attempt).unwrap_err().what(), "the disk is full");
        assert_eq!(*tries.borrow(), 1);
        assert!(catch_unwind(|| with_fewer_rows(8, |_| (), |_| -> Result<()> { panic!("a bug") })).is_err());
    }
}
