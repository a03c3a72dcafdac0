//! Parameter remapping: a student starts from its teacher's weights (Lee et al. 2023, appendix A.3).

use super::fit::LAYER;
use crate::config::BertShape;
use crate::error::Result;
use crate::model::Weights;
use crate::model::layers::{differing, expanded};

/// A student's starting weights: the teacher's embeddings, head and layers, its layers expanded to the student's depth.
///
/// **Expansion**: a shallower teacher's last layer is repeated until the depths agree. A deeper teacher is sampled
/// evenly, first and last layer included (12 to 6 gives DistilBERT's 0, 2, 4, 7, 9, 11). **Remapping**: each layer is
/// then copied to its position.
///
/// # Errors
/// When the two differ in anything but depth; the message names both sizes.
pub(in super::super) fn remap(teacher: &Weights, from: &BertShape, to: &BertShape) -> Result<Weights> {
    if *from != (BertShape { layers: from.layers, ..to.clone() }) || from.layers == 0 {
        return Err(differing(
            from,
            to,
            &[
                ("width", |shape| shape.hidden.to_string()),
                ("heads", |shape| shape.heads.to_string()),
                ("feed-forward", |shape| shape.intermediate.to_string()),
                ("vocabulary", |shape| shape.vocab_size.to_string()),
                ("positions", |shape| shape.max_positions.to_string()),
                ("token types", |shape| shape.token_types.to_string()),
                ("epsilon of the norms", |shape| format!("{:e}", shape.norm_epsilon)),
            ],
        ));
    }
    expanded(teacher, LAYER, [&vec![(); from.layers], &vec![(); to.layers]], "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn each_layer_is_the_teachers() {
        let teacher_shape = BertShape::new(20, 8, 2, 2, 10);
        let teacher = Weights::of(&teacher_shape.init(3, 0.02, &Device::flex()));
        let student_shape = BertShape { layers: 4, ..teacher_shape.clone() };
        let student = remap(&teacher, &teacher_shape, &student_shape).unwrap();
        for (layer, source) in [(0, 0), (1, 1), (2, 1), (3, 1)] {
            for part in ["attention.self.query.weight", "output.LayerNorm.bias", "intermediate.dense.bias"] {
                let (copied, original) = (format!("{LAYER}{layer}.{part}"), format!("{LAYER}{source}.{part}"));
                assert_eq!(student.get(&copied), teacher.get(&original), "{copied}");
            }
        }
        assert_eq!(student.get("cls.predictions.bias"), teacher.get("cls.predictions.bias"));
        let loaded = student.load_into(student_shape.init(9, 0.02, &Device::flex())).unwrap();
        assert_eq!(Weights::of(&loaded), student);
        assert_eq!(remap(&teacher, &teacher_shape, &teacher_shape).unwrap(), teacher);
    }

    #[test]
    fn another_width_is_refused_with_both_sizes() {
        let from = BertShape::new(20, 8, 2, 2, 10);
        let error = remap(&Weights::default(), &from, &BertShape::new(20, 16, 4, 2, 10)).unwrap_err().to_string();
        assert!(error.contains("width 8 and 16"), "{error}");
        assert!(error.contains("start = \"fresh\""), "{error}");
    }
}
