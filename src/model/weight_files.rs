//! The files of a folder that hold a model's weights: one or several, safetensors or PyTorch's; or one GGUF file in
//! place of a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::gguf::{Gguf, is_gguf};
use super::header::{Header, Numbers};
use super::pickle;
use super::weights::{Shapes, Weights, is_buffer, not_safetensors};
use crate::config::Shape;
use crate::error::{Error, IoContext, Result};

/// In the order in which they are looked for: safetensors first, as `transformers` does.
const SINGLE: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// The longest description of a model that is read, in bytes: a `config.json`, an index, a file's own header.
const LONGEST: u64 = 64 << 20;

/// What the files of a folder say of its tensors.
pub(super) struct Headers {
    /// Of the floating-point tensors, by the names that upstill has for them.
    pub shapes: Shapes,
    /// What the others hold, likewise.
    pub others: BTreeMap<String, String>,
    /// What is done to the tensors on reading, a line each.
    pub notes: Vec<String>,
}

/// Which files of a folder hold its weights, by name.
///
/// # Errors
/// When there are none (what the folder holds is listed), or some of a sharded model are missing (all of them are
/// listed).
pub(super) fn find(folder: &Path) -> Result<Vec<String>> {
    if is_gguf(folder) {
        return Ok(folder.file_name().into_iter().map(|name| name.to_string_lossy().into_owned()).collect());
    }
    for name in SINGLE {
        if folder.join(name).is_file() {
            return Ok(vec![name.to_owned()]);
        }
        let index = folder.join(format!("{name}.index.json"));
        if index.is_file() {
            return shards(folder, &index);
        }
    }
    let mut held: Vec<String> = std::fs::read_dir(folder)
        .doing("read", folder)?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    held.sort();
    Err(Error::new(format!("the folder holds neither {} nor {}, but: {}", SINGLE[0], SINGLE[1], held.join(", ")))
        .at(folder.display())
        .help("fetch the model's weights too; those of other frameworks (.h5, .msgpack, .onnx) are not read"))
}

/// The parts of a sharded model, from its index.
fn shards(folder: &Path, index: &Path) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index_of: Index = read_json(index, "an index of a sharded model")?;
    let files: BTreeSet<String> = index_of.weight_map.into_values().collect();
    let is_inside = |file: &&String| Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
    if let Some(outside) = files.iter().find(|file| file.is_empty() || !is_inside(file)) {
        return Err(Error::new(format!("the index names a part outside of the model's folder: {outside:?}"))
            .at(index.display())
            .help("the parts of a model lie beside its index: take the index from where the model was published"));
    }
    let (found, missing): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| folder.join(file).is_file());
    if !missing.is_empty() || found.is_empty() {
        let total = found.len() + missing.len();
        return Err(Error::new(format!("{} of the model's {total} parts are missing: {}", missing.len(), missing.join(", ")))
            .at(index.display())
            .help("fetch them into the same folder"));
    }
    Ok(found)
}

/// A JSON file of bounded length; `what` it should be, for the error.
///
/// # Errors
/// When it can't be read, is too long, or is not that.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T> {
    let refused = |why: &dyn std::fmt::Display| Error::new(format!("not {what}: {why}")).at(path.display());
    let mut text = Vec::new();
    File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut text)).doing("read", path)?;
    if text.len() as u64 > LONGEST {
        return Err(refused(&format!("it is longer than {} MiB", LONGEST >> 20)));
    }
    serde_json::from_slice(&text).map_err(|error| refused(&error))
}

/// What the folder's files say of its tensors; nothing of a tensor's size is made.
///
/// # Errors
/// As [`find`], and when a file can't be read.
pub(super) fn headers(folder: &Path, of: &Shape) -> Result<Headers> {
    if is_gguf(folder) {
        return Ok(Headers { shapes: Gguf::open(folder)?.shapes(), others: BTreeMap::new(), notes: Vec::new() });
    }
    let mut all: Vec<Header> = Vec::new();
    for name in find(folder)? {
        let path = folder.join(&name);
        all.extend(if is_safetensors(&name) { safetensors_headers(&path)? } else { pickle::headers(&path)? });
    }
    all.retain(|header| !is_buffer(&header.name));
    let mut notes = of.wrappings(all.iter().map(|header| header.name.as_str()));
    let doubles = all.iter().filter(|header| matches!(header.numbers, Numbers::Doubles)).count();
    if doubles > 0 {
        notes.push(format!("{doubles} tensors are float64 and are rounded to float32"));
    }
    let (mut shapes, mut others) = (Shapes::new(), BTreeMap::new());
    for Header { name, shape, numbers } in all {
        match numbers {
            Numbers::Others(held) => drop(others.insert(of.canonical(&name), held)),
            Numbers::Floats | Numbers::Doubles => drop(shapes.insert(of.canonical(&name), shape)),
        }
    }
    Ok(Headers { shapes, others, notes })
}

fn is_safetensors(name: &str) -> bool {
    name.ends_with(".safetensors")
}

/// From the beginning of a safetensors file; its values are not read.
fn safetensors_headers(path: &Path) -> Result<Vec<Header>> {
    let refused = |why: &dyn std::fmt::Display| not_safetensors(why).at(path.display());
    let mut file = File::open(path).doing("open", path)?;
    let held = file.metadata().doing("read", path)?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| refused(&"it is shorter than 8 bytes"))?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST.min(held - 8) {
        return Err(refused(&format!("its header would take {length} bytes, and the file has {held}")));
    }
    let mut text = Vec::new();
    file.take(length).read_to_end(&mut text).doing("read", path)?;
    let metadata: Metadata = serde_json::from_slice(&text).map_err(|error| refused(&error))?;
    let numbers = |dtype: Dtype| match dtype {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => Numbers::Floats,
        Dtype::F64 => Numbers::Doubles,
        other => Numbers::Others(format!("{other:?}")),
    };
    let header = |(name, info): (String, &safetensors::tensor::TensorInfo)| Header {
        name,
        shape: info.shape.clone(),
        numbers: numbers(info.dtype),
    };
    Ok(metadata.tensors().into_iter().map(header).collect())
}

/// Every floating-point tensor of the folder, under the names that upstill has for them.
///
/// # Errors
/// As [`headers`], and when two parts hold a tensor of the same name and other values.
pub(super) fn read(folder: &Path, of: &Shape) -> Result<Weights> {
    if is_gguf(folder) {
        return Gguf::open(folder)?.weights();
    }
    let mut all = Weights::default();
    for name in find(folder)? {
        let path = folder.join(&name);
        let part = match is_safetensors(&name) {
            true => Weights::floats_in(&std::fs::read(&path).doing("read", &path)?).map_err(|error| error.at(path.display()))?,
            false => pickle::read(&path)?,
        };
        for (name, tensor) in part.into_iter() {
            if all.get(&name).is_some_and(|other| *other != tensor) {
                return Err(Error::new(format!("two of the model's parts hold {name}, and differing"))
                    .at(path.display())
                    .help("the folder mixes two models: fetch one of them again"));
            }
            all.insert(&name, tensor);
        }
    }
    of.rename(all).map_err(|error| error.at(folder.display()))
}
