//! Integration tests, one module for each thing protected.

mod batch;
