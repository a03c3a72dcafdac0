//! What stands for the reader of PyTorch's files in a browser, which has none.

use std::path::Path;

use super::header::Header;
use super::weights::Weights;
use crate::error::{Error, Result};

pub(super) fn headers(path: &Path) -> Result<Vec<Header>> {
    Err(Error::new("PyTorch's files are not read in a browser").at(path.display()).help("make it model.safetensors"))
}

pub(super) fn read(path: &Path) -> Result<Weights> {
    headers(path).map(|_| Weights::default())
}
