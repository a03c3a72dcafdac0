//! upstill ("distil upwards"): train a larger language model with the help of a smaller, weaker one.
#![warn(missing_docs)]

pub mod batch;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod device;
pub mod error;
pub mod files;
pub mod log;
pub mod loss;
pub mod methods;
pub mod model;
pub mod optim;
pub mod study;
pub mod tasks;
pub mod text;
pub mod tokens;
pub mod train;

pub use error::{Error, Result};
