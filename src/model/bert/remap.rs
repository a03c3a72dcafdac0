//! Parameter remapping: a student starts from its teacher's weights (Lee et al. 2023, appendix A.3).

use super::fit::LAYER;
use crate::config::BertShape;
use crate::error::{Error, Result};
use crate::model::Weights;
use crate::model::layers::{layer_of, source_layer};

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
        return Err(Error::new(format!(
            "remapping copies weights as they are, and the teacher's sizes differ from the student's: width {} and {}, \
             heads {} and {}, feed-forward {} and {}, vocabulary {} and {}, positions {} and {}, token types {} and {}, \
             epsilon of the norms {:e} and {:e}",
            from.hidden,
            to.hidden,
            from.heads,
            to.heads,
            from.intermediate,
            to.intermediate,
            from.vocab_size,
            to.vocab_size,
            from.max_positions,
            to.max_positions,
            from.token_types,
            to.token_types,
            from.norm_epsilon,
            to.norm_epsilon
        ))
        .help("give the student the teacher's sizes (only the depth may differ), or start = \"fresh\""));
    }
    let mut out = Weights::default();
    for (name, tensor) in teacher.iter().filter(|(name, _)| layer_of(LAYER, name).is_none()) {
        out.insert(name, tensor.clone());
    }
    for layer in 0..to.layers {
        let source = source_layer(layer, from.layers, to.layers);
        for (name, tensor) in teacher.iter() {
            if let Some((of, rest)) = layer_of(LAYER, name)
                && of == source
            {
                out.insert(&format!("{LAYER}{layer}.{rest}"), tensor.clone());
            }
        }
    }
    Ok(out)
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
