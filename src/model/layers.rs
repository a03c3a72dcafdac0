//! Layers by their numbers, in whatever way a family's names have them: which layer a parameter is of, and which of a
//! teacher's layers a student's is copied from (Lee et al. 2023, appendix A.3).

/// The layer that a parameter belongs to, and its name within the layer; `prefix` is how the names of layers begin.
pub(super) fn layer_of<'a>(prefix: &str, name: &'a str) -> Option<(usize, &'a str)> {
    let (layer, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    Some((layer.parse().ok()?, rest))
}

/// Which teacher layer the student's layer `i` copies. **Expansion**: a shallower teacher's last layer is repeated
/// until the depths agree. A deeper teacher is sampled evenly, first and last layer included (12 to 6 gives
/// DistilBERT's 0, 2, 4, 7, 9, 11).
pub(super) fn source_layer(i: usize, teacher_layers: usize, student_layers: usize) -> usize {
    if teacher_layers <= student_layers {
        return i.min(teacher_layers - 1);
    }
    let steps = (student_layers - 1).max(1);
    (2 * i * (teacher_layers - 1) + steps) / (2 * steps)
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
