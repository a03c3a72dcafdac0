//! Models: BERT, ModernBERT, Llama and GPT-2, their weights by Hugging Face's names, and how a student starts from a
//! teacher.
//!
//! Shapes are written as suffixes: `b` rows of a batch, `s` positions of a row, `n` positions taken together, `d`
//! width, `f` feed-forward width, `h` heads, `v` vocabulary, `m` masked slots of a row.

mod bert;
mod classifier;
mod config_keys;
mod family;
mod fit;
mod gguf;
mod gpt2;
mod header;
mod huggingface;
mod init;
mod inputs;
mod inside;
mod language_model;
mod layers;
mod llama;
mod modernbert;
mod past;
#[cfg(not(target_family = "wasm"))]
mod pickle;
#[cfg(target_family = "wasm")]
#[path = "pickle_absent.rs"]
mod pickle;
mod renaming;
mod student;
mod trained;
mod weight_files;
mod weights;

pub use crate::config::{BertShape, Gpt2Shape, LlamaShape, ModernBertShape, RopeScaling, Shape};
pub use crate::kernels::Dropout;
pub use bert::{Bert, BertClassifier, BertForMaskedLm};
pub use classifier::Classifier;
pub use family::{AnyModel, remap};
pub use gpt2::{Gpt2, Gpt2LmHeadModel};
pub use huggingface::{Inventory, ModelFolder};
pub use inputs::{BatchTensors, Inputs};
pub use inside::Inside;
pub use language_model::LanguageModel;
pub use llama::{Llama, LlamaForCausalLm};
pub use modernbert::{ModernBert, ModernBertClassifier, ModernBertDecoderForCausalLm, ModernBertForMaskedLm};
pub use past::Past;
pub use student::{BiLstm, BiLstmShape, EncoderShape, Glove, Pooling, Student, StudentShape, TextRow};
pub use trained::{Projections, TrainedModel};
pub use weights::{HostTensor, Weights};
pub(crate) use weights::{ModulePath, Reading};
