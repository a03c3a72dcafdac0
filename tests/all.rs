//! Integration tests, one module for each thing protected.

mod batch;
mod cli;
mod common;
mod curve;
mod report;
mod rows;
mod text;
mod tidy;
mod tokens;
mod train;
