//! Layers by their numbers, in whatever way a family's names have them, and parameter remapping (Lee et al. 2023,
//! appendix A.3): a student's layers are copies of its teacher's.

use super::weights::Weights;
use crate::error::{Error, Result};

/// The layer that a parameter belongs to, and its name within the layer; `prefix` is how the names of layers begin.
fn layer_of<'a>(prefix: &str, name: &'a str) -> Option<(usize, &'a str)> {
    let (layer, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    Some((layer.parse().ok()?, rest))
}

/// Which teacher layer the student's layer `i` copies. **Expansion**: a shallower teacher's last layer is repeated
/// until the depths agree. A deeper teacher is sampled evenly, first and last layer included (12 to 6 gives
/// DistilBERT's 0, 2, 4, 7, 9, 11).
fn source_layer(i: usize, teacher_layers: usize, student_layers: usize) -> usize {
    if teacher_layers <= student_layers {
        return i.min(teacher_layers - 1);
    }
    let steps = (student_layers - 1).max(1);
    (2 * i * (teacher_layers - 1) + steps) / (2 * steps)
}

/// A student's starting weights: the teacher's embeddings, head and layers, its layers expanded to the student's depth.
///
/// `theirs` and `own` give each layer's kind; the rule of [`source_layer`] holds among layers of one kind, whose weights
/// were trained alike. `rare` names the kind that a teacher may lack.
///
/// # Errors
/// When the student has layers of a kind that the teacher has none of.
pub(super) fn expanded<Kind: PartialEq>(
    teacher: &Weights,
    prefix: &str,
    [theirs, own]: [&[Kind]; 2],
    rare: &str,
) -> Result<Weights> {
    let mut out = Weights::default();
    for (name, tensor) in teacher.iter().filter(|(name, _)| layer_of(prefix, name).is_none()) {
        out.insert(name, tensor.clone());
    }
    for (layer, kind) in own.iter().enumerate() {
        let count = |kinds: &[Kind]| kinds.iter().filter(|other| *other == kind).count();
        let mut sources = (0..theirs.len()).filter(|&source| theirs[source] == *kind);
        if count(theirs) == 0 {
            return Err(Error::new(format!("the student has layers {rare}, and the teacher has none to copy"))
                .help("take a deeper teacher, or start = \"fresh\""));
        }
        let source = sources.nth(source_layer(count(&own[..layer]), count(theirs), count(own)));
        for (name, tensor) in teacher.iter() {
            if let Some((_, rest)) = layer_of(prefix, name).filter(|(of, _)| Some(*of) == source) {
                out.insert(&format!("{prefix}{layer}.{rest}"), tensor.clone());
            }
        }
    }
    Ok(out)
}

/// A size's name, and how it is read from a family's sizes.
type NamedSize<'a, Shape> = (&'a str, fn(&Shape) -> String);

/// What is said of a teacher that differs from the student in more than depth: `sizes` are what both have, by name.
pub(super) fn differing<Shape>(from: &Shape, to: &Shape, sizes: &[NamedSize<Shape>]) -> Error {
    let sizes: Vec<String> = sizes.iter().map(|(name, of)| format!("{name} {} and {}", of(from), of(to))).collect();
    Error::new(format!(
        "remapping copies weights as they are, and the teacher's sizes differ from the student's: {}",
        sizes.join(", ")
    ))
    .help("give the student the teacher's sizes (only the depth may differ), or start = \"fresh\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shallow_teachers_last_layer_is_repeated() {
        let map = |teacher, student| (0..student).map(|i| source_layer(i, teacher, student)).collect::<Vec<_>>();
        assert_eq!(map(4, 6), [0, 1, 2, 3, 3, 3]);
        assert_eq!(map(1, 3), [0, 0, 0]);
        assert_eq!(map(6, 6), [0, 1, 2, 3, 4, 5]);
        assert_eq!(map(12, 6), [0, 2, 4, 7, 9, 11]);
        assert_eq!(map(4, 1), [0]);
    }
}
