//! What stands for the reader of Parquet in a browser: its code is C, and a page has no such files.

use std::sync::Arc;

use super::gathered::Gathered;
use super::options::ReadOptions;
use super::packed::absent;
use super::source::Source;
use super::stream::Meter;
use super::{Documents, Row, Wanted};
use crate::error::Result;

pub(super) fn documents(source: &Source, _: &ReadOptions, _: &Arc<Meter>) -> Result<Documents> {
    Err(absent(&source.path))
}

pub(super) fn rows(source: &Source, _: &Wanted, _: &ReadOptions, _: &mut Gathered<Row>) -> Result<()> {
    Err(absent(&source.path))
}
