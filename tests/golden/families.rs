//! What the goldens of every family read from its `config.json` share: logits of padded rows, and a model written and
//! read.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use serde::Deserialize;
use serde_json::Value;
use upstill::config::{DistillPlan, Positions};
use upstill::device::{Compute, Kernels};
use upstill::methods::{Dwt, ModelTeacher};
use upstill::model::{AnyModel, Dropout, Inputs, LanguageModel, ModelFolder};
use upstill::tokens::Tokenizer;

use super::training::{distill, stand_in};
use super::{Expected, Places, host, path};
use crate::close::{Kind, close};

#[derive(Deserialize)]
pub(super) struct ModelCase {
    pub name: String,
    pub config: Value,
    rows: usize,
    ids: Vec<i32>,
    /// 1 for a real token, 0 for padding, which ends a row.
    mask: Vec<i32>,
    /// Flattened positions where the logits are.
    at: Vec<i32>,
    logits: Vec<f64>,
}

/// A golden model, `FAMILY-NAME.safetensors`, read from a folder as `transformers` leaves it, tokenizer apart.
pub(super) fn model(family: &str, name: &str, config: &Value, device: &Device) -> AnyModel {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    fs::copy(path(&format!("{family}-{name}.safetensors")), dir.path().join("model.safetensors")).unwrap();
    let folder = ModelFolder::open(dir.path()).unwrap();
    assert_eq!(folder.architecture, config["model_type"], "{name}");
    let inventory = folder.inventory(&folder.tensors().unwrap());
    assert!(inventory.has_head() && inventory.missing.is_empty() && inventory.left_over.is_empty(), "{name}: {inventory:?}");
    folder.load(device).unwrap()
}

impl ModelCase {
    fn length(&self) -> usize {
        self.ids.len() / self.rows
    }

    fn real(&self, row: usize) -> usize {
        self.mask[row * self.length()..][..self.length()].iter().sum::<i32>() as usize
    }

    /// The rows; of those of a causal model nothing says that they are read in order: the model does that itself.
    fn inputs(&self, compute: &Compute) -> Inputs {
        let positions: Vec<i32> = (0..self.rows).flat_map(|_| 0..self.length() as i32).collect();
        Inputs::new(&self.ids, &positions, &self.mask, self.rows, compute)
    }

    /// All rows without their padding, one after another in one row, and where the slots are then.
    fn packed(&self, compute: &Compute) -> (Inputs, Vec<i32>) {
        let (mut ids, mut positions, mut segments, mut starts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for row in 0..self.rows {
            let real = self.real(row);
            starts.push(ids.len());
            ids.extend_from_slice(&self.ids[row * self.length()..][..real]);
            positions.extend(0..real as i32);
            segments.extend(vec![row as i32 + 1; real]);
        }
        let at = self.at.iter().map(|&at| (starts[at as usize / self.length()] + at as usize % self.length()) as i32);
        let at = at.collect();
        (Inputs::new(&ids, &positions, &segments, 1, compute), at)
    }

    /// Holds the model's logits on a CPU to the golden ones, of padded rows and of packed ones, by all kernels.
    pub fn hold(&self, model: &AnyModel) {
        for form in [Kernels::Composed, Kernels::Fused] {
            eprintln!("{} by {form} kernels", self.name);
            let compute = Compute::of(&Device::flex()).by(form);
            close(&logits(model, &self.inputs(&compute), &self.at), &self.logits, Kind::Logits);
            let (packed, at) = self.packed(&compute);
            close(&logits(model, &packed, &at), &self.logits, Kind::Logits);
        }
    }

    /// Holds the logits of padded rows on the device that the model is on.
    pub fn hold_padded(&self, model: &AnyModel, device: &Device) {
        eprintln!("{}", self.name);
        close(&logits(model, &self.inputs(&Compute::of(device)), &self.at), &self.logits, Kind::Logits);
    }

    /// Holds the logits of each row by itself, without its padding.
    pub fn hold_rows(&self, model: &AnyModel) {
        let (vocab, length) = (model.shape().vocab_size(), self.length());
        for row in 0..self.rows {
            let real = self.real(row);
            let slots: Vec<usize> = (0..self.at.len()).filter(|&slot| self.at[slot] as usize / length == row).collect();
            let at: Vec<i32> = slots.iter().map(|&slot| self.at[slot] % length as i32).collect();
            let positions: Vec<i32> = (0..real as i32).collect();
            let ids = &self.ids[row * length..][..real];
            let inputs = Inputs::new(ids, &positions, &vec![1; real], 1, &Compute::of(&Device::flex()));
            eprintln!("{}, row {row} without its padding", self.name);
            close(&logits(model, &inputs, &at), &self.logits[slots[0] * vocab..][..slots.len() * vocab], Kind::Logits);
        }
    }
}

pub(super) fn logits(model: &AnyModel, inputs: &Inputs, at: &[i32]) -> Vec<f32> {
    host(model.logits(inputs, &Places::new(at, &inputs.compute.device), &mut Dropout::off()))
}

/// Distillation at temperature 2 with soft losses twice as heavy, at masked or asked positions.
pub(super) fn taught_by(teacher: AnyModel, device: &Device) -> Dwt {
    let data = stand_in(teacher.shape().vocab_size(), device);
    let plan = DistillPlan { positions: Positions::Masked, ..distill(2.0, 2.0) };
    Dwt::new(data, plan, 20, Box::new(ModelTeacher::new(teacher)))
}

/// Writes a model, reads it, writes what was read and compares. Leaves it in target/tmp/export-NAME, with ids and
/// logits in `expected.json`, for tests/golden/check_export.py.
pub(super) fn hold_export(name: &str, architecture: &str, model: &AnyModel, tokenizer: &Tokenizer) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("export-{name}"));
    ModelFolder::write(&folder, model, tokenizer).unwrap();
    let opened = ModelFolder::open(&folder).unwrap();
    let loaded = opened.load(&Device::flex()).unwrap();
    assert_eq!((opened.shape.clone(), opened.architecture), (model.shape(), architecture));
    assert_eq!(opened.tokenizer().unwrap().hash(), tokenizer.hash());
    let dir = tempfile::tempdir().unwrap();
    let again = dir.path().join("again");
    ModelFolder::write(&again, &loaded, &opened.tokenizer().unwrap()).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"] {
        assert_eq!(fs::read(folder.join(file)).unwrap(), fs::read(again.join(file)).unwrap(), "{file}");
    }
    let expected = Expected::of(model, tokenizer);
    assert_eq!(expected.logits, Expected::of(&loaded, tokenizer).logits);
    fs::write(folder.join("expected.json"), serde_json::to_string(&expected).unwrap()).unwrap();
}
