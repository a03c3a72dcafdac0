//! Files appear whole or not at all: written beside, synced, renamed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{IoContext, Result};

/// Writes a file through a temporary neighbour, so that a reader sees the old content or the new, never a part.
///
/// # Errors
/// When the folder can't be written, or `fill` fails; then the old file is as it was and the neighbour is gone.
pub fn write_whole(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> Result<()> {
    let beside = beside(path);
    let written = (|| {
        let mut out = BufWriter::new(File::create(&beside)?);
        fill(&mut out)?;
        out.flush()?;
        out.get_ref().sync_all()?;
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.doing("write", path)
}

/// Whether nothing is at `dir` but at most an empty folder.
///
/// # Errors
/// When it can't be read.
pub fn is_free(dir: &Path) -> Result<bool> {
    Ok(!dir.exists() || dir.is_dir() && fs::read_dir(dir).doing("read", dir)?.next().is_none())
}

/// [`write_whole`] for text at hand.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    write_whole(path, |out| out.write_all(text.as_bytes()))
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

/// Fills a folder through a temporary neighbour and renames it into place; an older folder of that name is replaced.
///
/// # Errors
/// As `fill` says; then `path` is as it was.
pub fn write_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (beside, old) = (beside(path), path.with_extension("old~"));
    let _ = fs::remove_dir_all(&beside);
    fs::create_dir_all(&beside).doing("create", &beside)?;
    let result = fill(&beside).and_then(|()| {
        if path.exists() {
            let _ = fs::remove_dir_all(&old);
            fs::rename(path, &old).doing("replace", path)?;
        }
        fs::rename(&beside, path).doing("write", path)
    });
    if result.is_err() {
        let _ = fs::remove_dir_all(&beside);
        if !path.exists() && old.exists() {
            let _ = fs::rename(&old, path);
        }
    }
    let _ = fs::remove_dir_all(&old);
    result
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.part"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write_text(&path, "old").unwrap();
        let failed = write_whole(&path, |out| {
            out.write_all(b"half")?;
            Err(std::io::ErrorKind::StorageFull.into())
        });
        assert!(failed.unwrap_err().to_string().contains("the disk is full"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        for text in ["one", "two"] {
            write_folder(&path, |inside| write_text(&inside.join("x"), text)).unwrap();
            assert_eq!(fs::read_to_string(path.join("x")).unwrap(), text);
        }
        write_folder(&path, |_| Err(crate::Error::new("no"))).unwrap_err();
        assert_eq!(fs::read_to_string(path.join("x")).unwrap(), "two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
