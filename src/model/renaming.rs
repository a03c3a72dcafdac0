//! Names of tensors in files, made those of a family.

use std::collections::BTreeMap;

use super::weights::Weights;
use crate::error::{Error, Result};

/// Parts of a name that wrappers of a module put in, wherever they stand: data parallelism, `torch.compile`, sharding,
/// DeepSpeed, recomputed activations.
pub(super) const WRAPPERS: [&str; 5] =
    ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"];

/// A line on each kind of wrapping that is taken off; `taken` gives what a name loses.
pub(super) fn wrappings<'a>(names: impl Iterator<Item = &'a str>, taken: impl Fn(&str) -> String) -> Vec<String> {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    names.map(taken).filter(|taken| !taken.is_empty()).for_each(|taken| *found.entry(taken).or_default() += 1);
    found.into_iter().map(|(taken, count)| format!("the names of {count} tensors are wrapped: `{taken}` is taken off")).collect()
}

/// Tensors under the names that `canonical` has for theirs.
///
/// # Errors
/// When two different tensors come to the same name.
pub(super) fn renamed(found: Weights, canonical: impl Fn(&str) -> String) -> Result<Weights> {
    let mut out = Weights::default();
    let mut theirs: BTreeMap<String, String> = BTreeMap::new();
    for (name, tensor) in found.into_iter() {
        let canonical = canonical(&name);
        if let Some(other) = theirs.get(&canonical)
            && out.get(&canonical) != Some(&tensor)
        {
            return Err(Error::new(format!("the file holds {canonical} twice, and differing: as `{other}` and as `{name}`"))
                .help("it mixes two models: save the one that is meant by itself"));
        }
        out.insert(&canonical, tensor);
        theirs.insert(canonical, name);
    }
    Ok(out)
}
