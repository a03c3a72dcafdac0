//! Files appear whole or not at all, and one process writes a folder at a time.

mod claim;
#[cfg(test)]
mod fault;
mod lock;
pub(crate) mod manifest;
mod owner;
mod publish;
mod target;
mod temporary;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

pub(crate) use claim::Claim;
#[cfg(test)]
pub(crate) use fault::failing_after;
pub use lock::InUse;
pub(crate) use lock::{Busy, Lock, still_there};
pub use publish::can_write;
pub(crate) use publish::{make_folder, remove_folder, write_folder, write_text, write_whole};
pub(crate) use target::Target;
pub(crate) use temporary::{is_by_the_way, remove_half_made};

use crate::error::{IoContext, Result};

/// Whether nothing is at `dir`, or a folder that holds at most what is [by the way](is_by_the_way).
///
/// # Errors
/// When it can't be read.
pub(crate) fn is_free(dir: &Path) -> Result<bool> {
    if !dir.is_dir() {
        return Ok(!dir.exists());
    }
    for entry in fs::read_dir(dir).doing("read", dir)? {
        if !is_by_the_way(&entry.doing("read", dir)?.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a folder holds, or will: the bytes of its files by their path within it, `/` between folders.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Writes files into a folder that is there, each whole or not at all.
///
/// # Errors
/// As the file system says.
pub fn write_files(folder: &Path, files: &Files) -> Result<()> {
    for (name, bytes) in files {
        let path = folder.join(name);
        make_folder(path.parent().unwrap_or(folder))?;
        write_whole(&path, |out| out.write_all(bytes))?;
    }
    Ok(())
}

/// The files below `name/`, by their path within it.
pub fn within(files: &Files, name: &str) -> Files {
    let inside = files.iter().filter_map(|(path, bytes)| Some((path.strip_prefix(name)?.strip_prefix('/')?, bytes)));
    inside.map(|(path, bytes)| (path.to_owned(), bytes.clone())).collect()
}
