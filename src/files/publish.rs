//! Files and folders appear whole or not at all: written beside, synced, renamed.

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

/// [`write_whole`] for text at hand.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    write_whole(path, |out| out.write_all(text.as_bytes()))
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
