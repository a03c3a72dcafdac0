//! What stands for Zstandard, bzip2 and xz in a browser: their code is C or large, and a page has no such files.

use std::io::{self, BufRead};
use std::path::Path;

use crate::error::Error;

pub(super) fn zstd(_: impl BufRead + Send + 'static, path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    Err(io::Error::other(absent(path)))
}

pub(super) fn bzip2(_: impl BufRead + Send + 'static, path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    Err(io::Error::other(absent(path)))
}

pub(super) fn xz(_: impl BufRead + Send + 'static, path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    Err(io::Error::other(absent(path)))
}

pub(super) fn absent(path: &Path) -> Error {
    Error::new("Parquet, Zstandard, bzip2 and xz files are not read in a browser")
        .at(path.display())
        .help("build the data with the command, `upstill data build`")
}
