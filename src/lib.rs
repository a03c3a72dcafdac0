//! upstill ("distil upwards"): train a larger language model with the help of a smaller, weaker one.

pub mod error;
pub mod files;

pub use error::{Error, Result};
