//! upstill ("distil upwards") trains a larger language model with the help of a smaller, weaker one (Lee et al. 2023),
//! on CPUs and on any GPU.
//!
//! A student, a teacher and a corpus put together:
//!
//! ```no_run
//! use upstill::{Console, Device, RunFile, RunOptions, plan_run, train_run};
//!
//! fn main() -> upstill::Result<()> {
//!     let file = RunFile::preset("dwt-decay")? // hard loss 1, soft loss 4 -> 1
//!         .with("data.shards", "data/wiki") // made by `upstill data build`, or "pocket"
//!         .with("teacher.from", "runs/teacher") // a run, a checkpoint, or a Hugging Face folder
//!         .with("model.layers", 6)
//!         .with("train.steps", 20000);
//!     let (plan, shards) = plan_run(&file)?; // every mistake, in one message, before step 1
//!     println!("{}", plan.describe(None));
//!     let (device, console) = (Device::choose("auto")?, Console::stderr());
//!     let dir = std::path::Path::new("runs/student");
//!     let summary = train_run(&plan, &shards, &RunOptions { dir, resume: false, name: "student", console: &console, device: &device })?;
//!     println!("held-out loss {:?}", summary.held_out_loss);
//!     Ok(())
//! }
//! ```
//!
//! The [`guide`] goes from the first run to the papers.
//!
//! # The map
//!
//! Data flows one way, and so do imports:
//!
//! | room | from | to |
//! |---|---|---|
//! | [`text`] | files | documents, sentences; the pocket language |
//! | [`tokens`] | sentences | WordPiece ids in memory-mapped [`tokens::Shards`] |
//! | [`batch`] | shards, seed, step | a [`batch::Batch`] |
//! | [`answers`] | a batch | what a teacher said of it, from a cache on disk |
//! | [`kernels`] | logits, or what they are the product of | the distillation loss and its gradient, fused |
//! | [`model`] | a batch | logits at its masked slots |
//! | [`loss`] | logits, labels, a teacher's logits | equations 1 to 3 of the paper |
//! | [`optim`] | gradients | the next weights |
//! | [`methods`] | all of the above | what each model minimises on a batch |
//! | [`train`] | a [`config::Plan`] | a run in its folder ([`checkpoint`], [`log`]) |
//! | [`tasks`] | a trained model | scores |
//! | [`study`] | many plans | a table and a report |
//! | [`mod@bench`] | nothing | times, each beside its peer |
//!
//! [`config`] has the run file and the plan, [`device`] what to run on, [`error`] the one error, [`cli`] the command.
//! `ARCHITECTURE.md` has the invariants and how to add things.
#![warn(missing_docs)]
// The browser build leaves out whole rooms (`cli`, `study`, `bench`), and what is C (Zstandard, Parquet) or has no
// place there (Ctrl-C, PyTorch's pickles): by `target_family = "wasm"`, at the dependency or the module.

// First: the modules after it use its macros in place of std's.
#[macro_use]
mod terminal;

pub mod answers;
pub mod batch;
#[cfg(not(target_family = "wasm"))]
pub mod bench;
pub mod checkpoint;
#[cfg(not(target_family = "wasm"))]
pub mod cli;
pub mod config;
pub mod device;
pub mod error;
pub mod files;
pub mod guide;
pub mod kernels;
pub mod log;
pub mod loss;
pub mod methods;
pub mod model;
pub mod optim;
#[cfg(not(target_family = "wasm"))]
pub mod study;
pub mod tasks;
pub mod text;
pub mod tokens;
pub mod train;
mod words;

// What a program starts with; the rest is in its room.
pub use batch::{BatchOptions, Batches};
pub use config::{Plan, RunFile, Schedule};
pub use device::Device;
pub use error::{Error, Result};
pub use log::Console;
pub use methods::{Method, Teacher, evaluate};
pub use model::{AnyModel, ModelFolder};
#[cfg(not(target_family = "wasm"))]
pub use study::StudySpec;
pub use tokens::{Shards, Tokenizer};
pub use train::{RunOptions, fit, plan_on, plan_run, train_run};

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
