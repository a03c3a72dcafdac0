//! PyTorch's own weight files, `pytorch_model.bin`: pickles, read as data and never run.

use std::collections::HashMap;
use std::path::Path;

use pytorch_reader::{DType, PytorchReader, Tensor};
use safetensors::Dtype;

use super::header::{Header, Numbers};
use super::weights::{HostTensor, Weights, floats, is_buffer};
use crate::error::{Error, IoContext, Result};

const WANTED: &str = "it may have been cut short; code in a pickle is never run: save the weights alone, best as safetensors";

/// How often over a file may hold the same bytes under several names: a word table and a decoder that is tied to it are
/// one storage.
const TIED: usize = 4;

/// Names, shapes and numbers of a saved dictionary's tensors; dictionaries within it are joined by dots.
///
/// # Errors
/// When the file is missing, cut short, or holds anything but a dictionary of tensors.
pub(super) fn headers(path: &Path) -> Result<Vec<Header>> {
    let header = |(name, tensor): (String, Tensor)| {
        let numbers = match tensor.dtype() {
            DType::F32 | DType::BF16 | DType::F16 => Numbers::Floats,
            DType::F64 => Numbers::Doubles,
            other => Numbers::Others(format!("{other:?}")),
        };
        Header { name, shape: tensor.shape().to_vec(), numbers }
    };
    Ok(open(path)?.into_iter().map(header).collect())
}

/// Reads the floating-point tensors of a saved dictionary; f16 and bf16 are widened, f64 is rounded, others are passed
/// over.
///
/// # Errors
/// As [`headers`].
pub(super) fn read(path: &Path) -> Result<Weights> {
    let mut out = Weights::default();
    for (name, tensor) in open(path)? {
        if let Some(values) = values(&tensor).map_err(|error| error.at(path.display()))? {
            out.insert(&name, HostTensor { shape: tensor.shape().to_vec(), values });
        }
    }
    Ok(out)
}

/// The tensors of a file, none of them read yet, and none larger than what the file holds.
fn open(path: &Path) -> Result<HashMap<String, Tensor>> {
    let refused = |what: String| Error::new(what).at(path.display()).help(WANTED);
    // The library's own error for a missing file names no path.
    let held = std::fs::File::open(path).and_then(|file| file.metadata()).doing("read", path)?.len();
    let held = usize::try_from(held).unwrap_or(usize::MAX);
    let reader =
        PytorchReader::new(path).map_err(|error| refused(format!("not a state dictionary that PyTorch saved: {error}")))?;
    let mut tensors = reader.into_tensors();
    tensors.retain(|name, _| !is_buffer(name));
    if tensors.is_empty() {
        return Err(refused("the file holds no tensors".to_owned()));
    }
    // A view may repeat a few bytes without end.
    if let Some(largest) = tensors.values().max_by_key(|tensor| tensor.byte_len()).filter(|tensor| tensor.byte_len() > held) {
        let (name, shape, claimed) = (&largest.name, largest.shape(), largest.byte_len());
        return Err(refused(format!(
            "tensor {name} of shape {shape:?} would take {claimed} bytes, and the whole file has {held}"
        )));
    }
    let claimed = tensors.values().fold(0usize, |sum, tensor| sum.saturating_add(tensor.byte_len()));
    match claimed > held.saturating_mul(TIED) {
        true => Err(refused(format!("its {} tensors would take {claimed} bytes, and the whole file has {held}", tensors.len()))),
        false => Ok(tensors),
    }
}

fn values(tensor: &Tensor) -> Result<Option<Vec<f32>>> {
    let dtype = match tensor.dtype() {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        _ => return Ok(None),
    };
    let bytes = tensor.read().map_err(|error| Error::new(format!("a tensor can't be read: {error}")).help(WANTED))?;
    Ok(floats(dtype, &bytes))
}
