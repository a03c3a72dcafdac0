//! The numbers that are minimised, each a pure function, in nats a slot: equations 1 to 3 of Lee et al. 2023, which
//! have several forms and are re-exported from `src/kernels/loss/`, and others in their place or beside them.
//!
//! Shapes: `n` slots (masked positions of all rows), `v` vocabulary.

mod divergence;
mod fade;
mod features;
mod gate;
mod transfer;

pub use crate::kernels::loss::{StepLoss, dwt_loss, hard_loss, hard_losses, soft_loss, weighted_mean};
pub use crate::kernels::outcomes::{outcomes_loss, soft_loss_of_outcomes};
pub use divergence::{divergence_loss, jensen_shannon_loss, reverse_loss, total_variation_loss};
pub use fade::faded;
pub use features::{cosine_loss, hidden_loss, relation_loss};
pub use gate::{entropy, lowest_share};
pub use transfer::{Elements, JointWeights, confidence, largest_variance, log_odds, logit_loss, representation_loss};
