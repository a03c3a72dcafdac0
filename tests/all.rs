//! Integration tests, one module for each thing protected.

mod batch;
mod cli;
mod close;
mod common;
mod curve;
mod golden;
mod kernels;
mod report;
mod rows;
mod shaders;
mod text;
mod tidy;
mod tokens;
mod train;
