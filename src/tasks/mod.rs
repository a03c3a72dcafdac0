//! Labelled tasks and their scores.
