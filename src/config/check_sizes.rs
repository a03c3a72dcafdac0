//! Checks of the sizes of a model: each adds to the list of mistakes under its key.

use super::RunFile;
use super::mistakes::Mistakes;
use super::shape::{LlamaShape, Shape, Size};

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
    if let Shape::Llama(own) = shape {
        return heads_of_llama(own, prefix, out);
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

/// Heads of keys are shared by equally many of queries, and a head's numbers are turned in pairs.
fn heads_of_llama(shape: &LlamaShape, prefix: &str, out: &mut Mistakes) {
    let LlamaShape { heads, kv_heads, head_dim, hidden, .. } = *shape;
    if heads > 0 && kv_heads > 0 && !heads.is_multiple_of(kv_heads) {
        let what = format!("{kv_heads} heads of keys can't be shared evenly by {heads} heads of queries");
        out.add(&format!("{prefix}kv_heads"), what, "write a number that divides heads");
    }
    if head_dim == 0 && hidden > 0 && heads > 0 {
        out.add(&format!("{prefix}heads"), format!("{heads} heads are more than the width {hidden}"), "write fewer, or head_dim");
    } else if !head_dim.is_multiple_of(2) {
        let what = format!("heads are {head_dim} wide, and rotary positions turn pairs of numbers");
        out.add(&format!("{prefix}head_dim"), what, "write an even number");
    }
    if shape.qk_norm && shape.no_rope_every > 0 {
        let what = "goes with qk_norm in no model that there is: `transformers` could not read it";
        out.add(&format!("{prefix}no_rope_every"), what, "remove one of them");
    }
}

/// Usual heads are 16 to 128 wide.
fn heads_that_fit(hidden: usize) -> String {
    let sizes = [128, 96, 64, 48, 32, 24, 16].into_iter().filter(|size| hidden.is_multiple_of(*size));
    let heads: Vec<_> = sizes.map(|size| (hidden / size).to_string()).collect();
    if heads.is_empty() { "write 1, or another width".into() } else { format!("write {}", heads.join(", ")) }
}
