//! Integration tests, one module for each thing protected.

mod batch;
mod cli;
mod close;
mod common;
mod cotrain;
mod cotrain_cli;
mod cuda_math;
mod curve;
mod finetune;
mod folders;
mod golden;
mod kernels;
mod layers;
mod memory;
mod page;
mod report;
mod rows;
mod shaders;
mod study;
mod tasks;
mod text;
mod tidy;
mod tokens;
mod train;
mod transfer;
mod workers;
