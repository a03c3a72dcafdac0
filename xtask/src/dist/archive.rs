//! Archives and checksums.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use crate::Result;

/// A file of an archive.
#[derive(Clone)]
pub struct Entry {
    /// Within the archive's one folder, `/` between names.
    pub path: String,
    pub bytes: Vec<u8>,
    mode: u32,
}

impl Entry {
    pub fn file(path: String, bytes: Vec<u8>) -> Self {
        Self { path, bytes, mode: 0o644 }
    }

    pub fn command(path: String, bytes: Vec<u8>) -> Self {
        Self { path, bytes, mode: 0o755 }
    }
}

#[derive(Clone, Copy)]
pub enum Kind {
    Tgz,
    /// What Windows opens without a tool.
    Zip,
}

impl Kind {
    pub fn ending(self) -> &'static str {
        match self {
            Kind::Tgz => "tgz",
            Kind::Zip => "zip",
        }
    }
}

/// Writes files below one folder. No time is written, so that the same files give the same archive.
pub fn write_archive(path: &Path, kind: Kind, folder: &str, entries: &[Entry]) -> Result<()> {
    let file = File::create(path)?;
    match kind {
        Kind::Tgz => {
            let mut tar = tar::Builder::new(GzEncoder::new(file, Compression::best()));
            for entry in entries {
                let mut header = tar::Header::new_gnu();
                header.set_size(entry.bytes.len() as u64);
                header.set_mode(entry.mode);
                tar.append_data(&mut header, format!("{folder}/{}", entry.path), entry.bytes.as_slice())?;
            }
            tar.into_inner()?.finish()?.sync_all()?;
        }
        Kind::Zip => {
            let mut zip = ZipWriter::new(file);
            for entry in entries {
                let options =
                    SimpleFileOptions::default().unix_permissions(entry.mode).last_modified_time(zip::DateTime::default());
                zip.start_file(format!("{folder}/{}", entry.path), options)?;
                zip.write_all(&entry.bytes)?;
            }
            zip.finish()?.sync_all()?;
        }
    }
    Ok(())
}

/// The command in a wheel: its file name, and the file.
pub fn command_in(wheel: &Path) -> Result<(String, Vec<u8>)> {
    let mut zip = ZipArchive::new(Cursor::new(fs::read(wheel)?))?;
    let names = zip.file_names().collect::<std::result::Result<Vec<_>, _>>()?;
    let path = names.into_iter().find(|path| path.contains(".data/scripts/")).map(|path| path.into_owned());
    let path = path.ok_or_else(|| format!("{}: no command in this wheel", wheel.display()))?;
    let mut bytes = Vec::new();
    zip.by_name(&path)?.read_to_end(&mut bytes)?;
    Ok((path.rsplit('/').next().unwrap_or_default().to_owned(), bytes))
}

/// Lines for `sha256sum --check`, run beside the files.
pub fn sums(files: &[PathBuf]) -> Result<String> {
    let mut lines = String::new();
    for file in files {
        let sum = Sha256::digest(fs::read(file)?);
        let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(lines, "{sum}  {}", file.file_name().unwrap_or_default().display())?;
    }
    Ok(lines)
}

pub fn make_executable(path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_archive_and_a_command_can_be_run() {
        let folder = std::env::temp_dir().join(format!("upstill-archive-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let entries =
            [Entry::command("upstill".into(), b"#!/bin/sh\n".to_vec()), Entry::file("man/upstill.1".into(), b".TH".to_vec())];
        for kind in [Kind::Tgz, Kind::Zip] {
            let paths = ["one", "two"].map(|name| folder.join(format!("{name}.{}", kind.ending())));
            for path in &paths {
                write_archive(path, kind, "upstill-x-v1", &entries).unwrap();
            }
            assert_eq!(fs::read(&paths[0]).unwrap(), fs::read(&paths[1]).unwrap());
        }
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(File::open(folder.join("one.tgz")).unwrap()));
        let found: Vec<(String, u32)> = tar
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap()))
            .collect();
        assert_eq!(found, [("upstill-x-v1/upstill".to_owned(), 0o755), ("upstill-x-v1/man/upstill.1".to_owned(), 0o644)]);
        let mut zip = ZipArchive::new(File::open(folder.join("one.zip")).unwrap()).unwrap();
        assert_eq!(zip.by_index(0).unwrap().unix_mode().map(|mode| mode & 0o777), Some(0o755));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn sums_are_those_of_sha256sum() {
        let file = std::env::temp_dir().join(format!("upstill-sum-{}", std::process::id()));
        fs::write(&file, "abc").unwrap();
        let line = sums(std::slice::from_ref(&file)).unwrap();
        assert!(line.starts_with("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  upstill-sum-"), "{line}");
        fs::remove_file(file).unwrap();
    }
}
