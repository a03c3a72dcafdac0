//! A folder that a command makes: taken before the work, put in place after it.

use std::path::Path;

use super::lock::{Lock, clear_stale};
use super::publish::{Place, is_unfinished, parent};
use super::temporary::sweep;
use crate::error::Result;

/// A folder that a command makes as a whole. It is this process's alone from before the work until the content is in
/// place, and whether it can be written is known before the work.
pub struct Target<'a> {
    place: Place,
    accept: &'a dyn Fn(&Path) -> Result<()>,
    /// Let go of last.
    lock: Lock,
}

impl<'a> Target<'a> {
    /// Takes the folder `path`, which is made where it is missing. `accept` looks at what is there, and says whether it
    /// may be replaced; it is asked again before that happens.
    ///
    /// # Errors
    /// As `accept` says, when another process has the folder, or it can't be written; then nothing was touched.
    pub fn take(path: &Path, accept: &'a dyn Fn(&Path) -> Result<()>) -> Result<Self> {
        sweep(parent(path));
        clear_stale(path);
        if !is_unfinished(path) {
            accept(path)?; // somebody's own folder is not even locked
        }
        let lock = Lock::take(path)?;
        let place = Place::find(path)?;
        accept(path)?;
        Ok(Self { place, accept, lock })
    }

    /// Fills the folder by way of a temporary one, and puts it in place.
    ///
    /// # Errors
    /// As `fill` says, when the folder vanished or got other content in the meantime, or can't be written; then it is
    /// as it was.
    pub fn write<T>(self, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let Self { place, accept, lock } = self;
        let written = place.write(fill, accept);
        drop(lock);
        written
    }
}
