//! Checks of the sizes of a model: each adds to the list of mistakes under its key.

use super::RunFile;
use super::mistakes::Mistakes;
use super::shape::{Shape, Size};

/// The sizes of a model whose keys begin with `prefix`. What it doesn't say itself is as in `[model]`.
pub(super) fn sizes(file: &RunFile, prefix: &str, shape: &Shape, out: &mut Mistakes) {
    let key_of = |leaf: &str| {
        let (own, shared) = (format!("{prefix}{leaf}"), format!("model.{leaf}"));
        if !file.has_written(&own) && file.has_written(&shared) { shared } else { own }
    };
    for Size { key, value, least } in shape.keys() {
        let key = key_of(key);
        // What [model] has wrong is said once, however many models share it.
        if out.names(&key) {
            continue;
        }
        // A rule's 0 follows from another key's.
        if value < least && file.has_written(&key) {
            out.add(&key, format!("is {value}"), format!("write {least} or more"));
        }
        if value > 1 << 24 {
            out.add(&key, format!("is {value}"), "write at most 16777216");
        }
    }
    let (heads, hidden) = (shape.heads(), shape.hidden());
    if heads > 0 && !hidden.is_multiple_of(heads) {
        let what = format!("{heads} heads do not divide the width, {} = {hidden}", key_of("hidden"));
        out.add(&format!("{prefix}heads"), what, heads_that_fit(hidden));
    } else if heads > 0 && shape.pairs_in_heads() && !(hidden / heads).is_multiple_of(2) {
        let what = format!("{heads} heads are {} wide, and rotary positions turn pairs of numbers", hidden / heads);
        out.add(&format!("{prefix}heads"), what, heads_that_fit(hidden));
    }
}

/// Usual heads are 16 to 128 wide.
fn heads_that_fit(hidden: usize) -> String {
    let sizes = [128, 96, 64, 48, 32, 24, 16].into_iter().filter(|size| hidden.is_multiple_of(*size));
    let heads: Vec<_> = sizes.map(|size| (hidden / size).to_string()).collect();
    if heads.is_empty() { "write 1, or another width".into() } else { format!("write {}", heads.join(", ")) }
}
