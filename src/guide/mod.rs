//! The guide: how to use upstill, from the first run to the papers.
//!
//! | chapter | what it answers |
//! |---|---|
//! | [`installing`] | What do I install where, and what differs by system? |
//! | [`getting_started`] | What do I run first, and what does it say? |
//! | [`your_own_text`] | How does text become shards, and which tokenizer? |
//! | [`distilling`] | How does a student learn from a weak teacher, and what can be scheduled? |
//! | [`teachers_elsewhere`] | How is a teacher asked once and read many times, or another program? |
//! | [`modern_encoders`] | How do I train a ModernBERT or go on from one, and what is other than with BERT? |
//! | [`causal_models`] | How do I train a Llama or a GPT-2, with a teacher or alone, and have it write? |
//! | [`scoring`] | How good is a model: held-out loss, GLUE, own labels, words for `[MASK]`? |
//! | [`studies`] | Does a difference hold over seeds, and how is that shown? |
//! | [`gpus`] | What runs on which GPU, and how do several share a batch? |
//! | [`several_machines`] | How do processes on one machine or many share a batch, and what can go wrong? |
//! | [`browser`] | How does the page train? |
//! | [`python`] | How do I run it from Python, and read what it wrote? |
//! | [`papers`] | Which command repeats which claim? |
//!
//! `upstill COMMAND --help` has every option, `upstill plan --keys` every key of a run file.

#[doc = include_str!("installing.md")]
pub mod installing {}

#[doc = include_str!("getting_started.md")]
pub mod getting_started {}

#[doc = include_str!("your_own_text.md")]
pub mod your_own_text {}

#[doc = include_str!("distilling.md")]
pub mod distilling {}

#[doc = include_str!("teachers_elsewhere.md")]
pub mod teachers_elsewhere {}

#[doc = include_str!("modern_encoders.md")]
pub mod modern_encoders {}

#[doc = include_str!("causal_models.md")]
pub mod causal_models {}

#[doc = include_str!("scoring.md")]
pub mod scoring {}

#[doc = include_str!("studies.md")]
pub mod studies {}

#[doc = include_str!("gpus.md")]
pub mod gpus {}

#[doc = include_str!("several_machines.md")]
pub mod several_machines {}

#[doc = include_str!("browser.md")]
pub mod browser {}

#[doc = include_str!("python.md")]
pub mod python {}

#[doc = include_str!("papers.md")]
pub mod papers {}
