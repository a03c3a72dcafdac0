//! What stands for the readers of Parquet and Zstandard in a browser: their code is C, and a page has no such files.

use std::io::BufRead;
use std::sync::Arc;

use super::reader::{Documents, Meter, ReadOptions};
use super::rows::Row;
use super::source::Source;
use crate::error::{Error, Result};

pub(super) fn documents(source: &Source, _: &ReadOptions, _: &Arc<Meter>) -> Result<Documents> {
    Err(absent(source))
}

pub(super) fn rows(source: &Source, _: impl FnOnce(&[String]) -> Result<Vec<usize>>) -> Result<Vec<Row>> {
    Err(absent(source))
}

pub(super) fn unpack_zstd(_: impl BufRead + Send + 'static, source: &Source) -> Result<Box<dyn BufRead + Send>> {
    Err(absent(source))
}

fn absent(source: &Source) -> Error {
    Error::new("Parquet and Zstandard files are not read in a browser")
        .at(source.path.display())
        .help("build the data with the command, `upstill data build`")
}
