//! Integration tests, one module for each thing protected.

mod batch;
mod report;
mod text;
mod tokens;
