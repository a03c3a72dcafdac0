//! The files of a folder that hold a model's weights: one or several, safetensors or PyTorch's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::names::rename;
use super::pickle;
use super::weights::Weights;
use crate::error::{Error, IoContext, Result};

/// In the order in which they are looked for: safetensors first, as `transformers` does.
const SINGLE: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// Which files of a folder hold its weights, by name.
///
/// # Errors
/// When there are none (what the folder holds is listed), or some of a sharded model are missing (all of them are listed).
pub(super) fn find(folder: &Path) -> Result<Vec<String>> {
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
    let text = std::fs::read_to_string(index).doing("read", index)?;
    let index_of: Index = serde_json::from_str(&text)
        .map_err(|error| Error::new(format!("not an index of a sharded model: {error}")).at(index.display()))?;
    let files: BTreeSet<String> = index_of.weight_map.into_values().collect();
    let (found, missing): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| folder.join(file).is_file());
    if !missing.is_empty() || found.is_empty() {
        let total = found.len() + missing.len();
        return Err(Error::new(format!("{} of the model's {total} parts are missing: {}", missing.len(), missing.join(", ")))
            .at(index.display())
            .help("fetch them into the same folder"));
    }
    Ok(found)
}

/// Every weight of the folder, under the names of today's `BertForMaskedLM`.
///
/// # Errors
/// As [`find`], and when a file can't be read.
pub(super) fn read(folder: &Path) -> Result<Weights> {
    let mut all = Weights::default();
    for name in find(folder)? {
        let path = folder.join(&name);
        let part = if name.ends_with(".safetensors") { Weights::read(&path)? } else { pickle::read(&path)? };
        part.into_iter().for_each(|(name, tensor)| all.insert(&name, tensor));
    }
    rename(all).map_err(|error| error.at(folder.display()))
}
