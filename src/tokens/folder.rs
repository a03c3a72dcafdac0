//! What the files of a data folder are called, and how such a folder is known.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::shard::MAGIC;
use super::special::TOKENIZER_FILES;
use crate::files::is_by_the_way;

/// The manifest's name within a data folder.
pub(super) const MANIFEST: &str = "manifest.json";
/// What a manifest says that it is.
pub(super) const FORMAT: &str = "upstill data";
/// The file with the token counts.
pub(super) const COUNTS: &str = "token-counts.bin";

/// Whether a file is, or was before it was damaged, the manifest of a data folder.
fn is_manifest(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(FORMAT))
}

/// Whether all that `folder` holds is what a build writes, and one file at least can be nothing but data: whole or
/// damaged, it can be replaced, and nobody's own file goes with it.
pub(super) fn holds_data_only(folder: &Path) -> bool {
    let is_ours = |name: &str| is_shard(name) || [MANIFEST, COUNTS].contains(&name) || TOKENIZER_FILES.contains(&name);
    let Ok(entries) = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>) else { return false };
    let mut held = entries.iter().filter(|entry| !is_by_the_way(&entry.file_name()));
    let is_kept = |entry: &&std::fs::DirEntry| entry.file_name().to_str().is_some_and(is_ours) && entry.path().is_file();
    held.clone().all(|entry| is_kept(&entry)) && held.any(|entry| is_data(&entry.path()))
}

fn is_shard(name: &str) -> bool {
    name.ends_with(".tok") && ["train-", "held-out-"].iter().any(|start| name.starts_with(start))
}

/// By its content: others have a `manifest.json` too.
fn is_data(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut start = [0; MAGIC.len()];
    let is_read = File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok();
    is_shard(&name) && is_read && start == *MAGIC || name == MANIFEST && is_manifest(path)
}
