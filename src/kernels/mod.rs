//! Operations of our own, each in a folder: the language-model head and the distillation loss in one, the layers of
//! encoders, and what an optimizer does to every parameter.
//!
//! # An operation's folder
//!
//! | file | what it has |
//! |---|---|
//! | `mod.rs` | the operation's one function for the other rooms, its documentation, and the choice of its form |
//! | `composed.rs` | the form of burn's operations, which runs on any device; one expression stands in `mod.rs` |
//! | `cpu.rs` | plain Rust on the CPU; `bf16.rs` where products of bf16 make it another program |
//! | `cube.rs` | CubeCL, on any GPU; `gpu.rs` where WGSL by hand is chosen before it |
//!
//! Not every operation has every form. `form.rs` says which one a [`Compute`](crate::device::Compute) runs, and
//! `[runtime] kernels` or `UPSTILL_KERNELS=composed` chooses burn's operations. A build without the feature `gpu` has
//! no `cube.rs`, no `gpu.rs` and no such form. An operation's definition in plain loops is in `shaders/`: of layers in
//! `shaders/layers.rs`, of the losses and of a product in files that their `mod.rs` includes. `tests/definitions.rs` and
//! `tests/kernels.rs` hold every form to them, `tests/layers.rs` forms to each other at sizes that are too large for
//! plain loops.
//!
//! An operation with a gradient is a value and a backward pass that is linked into burn's graph (`graph.rs`). It reads
//! as many tensors as it needs, and takes the array of what is wanted, and gives that of gradients, in their order:
//! both have the operation's own length, and a pattern or an expression names each of their elements.
//!
//! What several operations share is in files of its own beside the folders: `host.rs`, `vector.rs`, `matrix.rs` and
//! `bf16/` for the CPU, `gpu/` for GPUs.
//!
//! # Why they are there
//!
//! With a vocabulary of 30,522 the loss is most of a step; so its gradient is made in the forward pass, a chunk of
//! slots at a time, and `[m, v]` logits never exist at once. No GPU of ours has measured the fused forms; they are the
//! default there because they launch a fifth of burn's kernels, and because burn adds up the gradient of a look-up
//! token by token.

mod adam;
mod attach;
mod attention;
mod bf16;
mod dense;
mod dropout;
mod form;
mod gated;
mod gelu;
#[cfg(feature = "gpu")]
mod gpu;
mod graph;
mod grouped;
mod guard;
mod host;
mod logits;
mod look_up;
pub(crate) mod loss;
mod lstm;
pub mod matmul;
mod matrix;
mod norm;
pub(crate) mod outcomes;
mod residual;
mod rms;
mod rotary;
mod spent;
mod squares;
mod swiglu;
mod tanh_gelu;
mod vector;

pub(crate) use adam::{AdamPass, AdamStep};
pub use attention::{Sight, self_attention};
pub use dense::{Dense, dense, dense_gelu, linear};
pub use dropout::Dropout;
pub(crate) use form::in_f32;
pub use gated::gelu_gate;
pub use gelu::erf_gelu;
pub use grouped::{Heads, PastLayer, grouped_attention, next_attention};
pub(crate) use guard::next_guard;
pub use logits::Logits;
pub use look_up::{Places, look_up};
/// The definition of the distillation loss, and its cases.
pub use loss::definition as dwt_loss;
pub use loss::definition::DwtLoss;
pub use loss::{StepLoss, Targets};
pub use lstm::{Direction, bilstm, lstm_composed};
pub use matmul::matmul;
pub use norm::{Norm, dense_norm, norm_of_sum};
pub use outcomes::Outcomes;
/// The definition of the loss against a few outcomes of a teacher, and its cases.
pub use outcomes::definition as few_outcomes;
pub use residual::dense_sum;
pub use rms::rms_norm;
pub use rotary::{Rotary, rotary_attention};
pub use spent::{Spent, spent};
pub(crate) use squares::{squares, sum_of_squares};
pub use swiglu::silu_gate;
pub use tanh_gelu::tanh_gelu;
