//! The page's side of upstill: a [`Session`] that trains a teacher and two students in memory, and its calls from
//! JavaScript.
//!
//! Nothing here computes: batches, models, losses, optimizers and schedules are the command's own.
#![warn(missing_docs)]

mod archive;
mod check;
mod own_text;
mod page;
mod session;
mod settings;

pub use check::{Check, check_kernels};
pub use own_text::shards_of;
pub use session::{Phase, Session, Turn};
pub use settings::{Role, Settings};
