//! Text: readers, sentences, sampling, and the pocket language.

pub mod pocket;
