//! PyTorch's own weight files, `pytorch_model.bin`: pickles, read as data and never run.

use std::path::Path;

use pytorch_reader::{DType, PytorchError, PytorchReader, Tensor};

use super::weights::{HostTensor, Weights, f16_to_f32, is_buffer};
use crate::error::{Error, IoContext, Result};

const WANTED: &str = "it may have been cut short; code in a pickle is never run: save the weights alone, best as safetensors";

/// Reads the floating-point tensors of a saved state dictionary; f16 and bf16 are widened, f64 is rounded.
///
/// # Errors
/// When the file is missing, cut short, or holds anything but a dictionary of tensors.
pub(super) fn read(path: &Path) -> Result<Weights> {
    // The library's own error for a missing file names no path.
    std::fs::File::open(path).doing("read", path)?;
    let refused = |error: PytorchError| {
        Error::new(format!("not a state dictionary that PyTorch saved: {error}")).at(path.display()).help(WANTED)
    };
    let mut out = Weights::default();
    for (name, tensor) in PytorchReader::new(path).map_err(refused)?.into_tensors() {
        if !is_buffer(&name) {
            let values = floats(&name, &tensor).map_err(|error| error.at(path.display()))?;
            out.insert(&name, HostTensor { shape: tensor.shape().to_vec(), values });
        }
    }
    if out.iter().next().is_none() {
        return Err(Error::new("the file holds no tensors").at(path.display()).help(WANTED));
    }
    Ok(out)
}

fn floats(name: &str, tensor: &Tensor) -> Result<Vec<f32>> {
    let bytes = tensor.read().map_err(|error| Error::new(format!("a tensor can't be read: {error}")))?;
    let halves = || bytes.chunks_exact(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]]));
    match tensor.dtype() {
        DType::F32 => Ok(bytes.chunks_exact(4).map(|x| f32::from_ne_bytes([x[0], x[1], x[2], x[3]])).collect()),
        DType::F64 => {
            let doubles = bytes.chunks_exact(8).map(|x| f64::from_ne_bytes(x.try_into().expect("eight bytes")));
            Ok(doubles.map(|x| x as f32).collect())
        }
        DType::BF16 => Ok(halves().map(|bits| f32::from_bits(u32::from(bits) << 16)).collect()),
        DType::F16 => Ok(halves().map(f16_to_f32).collect()),
        other => Err(Error::new(format!("tensor {name} holds {other:?}, and weights are floating-point numbers"))),
    }
}
