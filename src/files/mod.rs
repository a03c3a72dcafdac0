//! Files appear whole or not at all, and one process writes a folder at a time.

mod publish;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

pub use publish::{write_folder, write_text, write_whole};

use crate::error::{IoContext, Result};

/// Whether nothing is at `dir` but at most an empty folder.
///
/// # Errors
/// When it can't be read.
pub fn is_free(dir: &Path) -> Result<bool> {
    Ok(!dir.exists() || dir.is_dir() && fs::read_dir(dir).doing("read", dir)?.next().is_none())
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
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).doing("create", parent)?;
        write_whole(&path, |out| out.write_all(bytes))?;
    }
    Ok(())
}

/// The files below `name/`, by their path within it.
pub fn within(files: &Files, name: &str) -> Files {
    let inside = files.iter().filter_map(|(path, bytes)| Some((path.strip_prefix(name)?.strip_prefix('/')?, bytes)));
    inside.map(|(path, bytes)| (path.to_owned(), bytes.clone())).collect()
}
