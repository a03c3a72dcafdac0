//! Names of tensors in files, made those of a family.

use std::collections::BTreeMap;

use super::weights::Weights;
use crate::error::{Error, Result};

/// Parts of a name that wrappers of a module put in, wherever they stand: data parallelism, `torch.compile`, sharding,
/// DeepSpeed, recomputed activations.
pub(super) const WRAPPERS: [&str; 5] =
    ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"];

/// Parts that stand before a model's own names: the key of a dictionary around the weights.
const FRONTS: [&str; 4] = ["state", "state_dict", "model_state_dict", "model_state"];

/// A tensor's name as a family has it whose names begin with `root.` or with one of `heads`, and what a wrapping had
/// put before or into it. `bare` are the first parts below the root, which a model saved without its head lacks. A name
/// of another kind stays as it is.
pub(super) fn unwrapped(name: &str, root: &str, bare: &[&str], heads: &[&str]) -> (String, String) {
    let is_taken = |part: &&str| WRAPPERS.contains(part);
    let inner: Vec<&str> = name.split('.').filter(|part| !is_taken(part)).collect();
    let fronts = inner.iter().take_while(|part| FRONTS.contains(part)).count();
    let own = match inner[fronts..] {
        [first, ..] if bare.contains(&first) => format!("{root}.{}", inner[fronts..].join(".")),
        [first, second, ..] if first == root && bare.contains(&second) => inner[fronts..].join("."),
        [first, ..] if heads.contains(&first) => inner[fronts..].join("."),
        _ => return (name.to_owned(), String::new()),
    };
    let taken = inner[..fronts].iter().copied().chain(name.split('.').filter(is_taken));
    (own, taken.map(|part| format!("{part}.")).collect())
}

/// Takes off a decoder that is the word table's copy.
pub(super) fn without_copied_decoder(weights: &mut Weights, decoder: &str, words: &str) {
    if weights.get(decoder).is_some_and(|decoder| Some(decoder) == weights.get(words)) {
        weights.remove(decoder);
    }
}

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
