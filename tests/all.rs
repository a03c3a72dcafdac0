//! Integration tests, one module for each thing protected.

mod batch;
mod text;
mod tokens;
