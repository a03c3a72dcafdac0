//! Parameter remapping (Lee et al. 2023, appendix A.3).

use super::fit::LAYER;
use crate::config::Gpt2Shape;
use crate::error::Result;
use crate::model::Weights;
use crate::model::layers::{differing, expanded};

/// A student's starting weights: the teacher's tables, last norm and layers, its layers expanded to the student's
/// depth.
///
/// # Errors
/// When the two differ in anything but depth; the message names both sizes.
pub(in super::super) fn remap(teacher: &Weights, from: &Gpt2Shape, to: &Gpt2Shape) -> Result<Weights> {
    if *from != (Gpt2Shape { layers: from.layers, ..to.clone() }) || from.layers == 0 {
        return Err(differing(
            from,
            to,
            &[
                ("width", |shape| shape.hidden.to_string()),
                ("heads", |shape| shape.heads.to_string()),
                ("feed-forward", |shape| shape.intermediate.to_string()),
                ("vocabulary", |shape| shape.vocab_size.to_string()),
                ("positions", |shape| shape.max_positions.to_string()),
                ("epsilon of the norms", |shape| format!("{:e}", shape.norm_epsilon)),
            ],
        ));
    }
    expanded(teacher, LAYER, [&vec![(); from.layers], &vec![(); to.layers]], "")
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn each_layer_is_the_teachers_and_other_sizes_are_refused() {
        let shape = |layers| Gpt2Shape::new(20, 8, layers, 2, 10);
        let teacher = Weights::of(&shape(2).init(3, 0.02, &Device::flex()));
        let student = remap(&teacher, &shape(2), &shape(3)).unwrap();
        for (layer, source) in [(0, 0), (1, 1), (2, 1)] {
            for part in ["attn.c_attn.weight", "ln_2.bias", "mlp.c_proj.weight"] {
                let (copied, original) = (format!("{LAYER}{layer}.{part}"), format!("{LAYER}{source}.{part}"));
                assert_eq!(student.get(&copied), teacher.get(&original), "{copied}");
            }
        }
        let loaded = student.load_into(shape(3).init(9, 0.02, &Device::flex())).unwrap();
        assert_eq!(Weights::of(&loaded), student);
        let wider = remap(&teacher, &shape(2), &Gpt2Shape::new(20, 16, 2, 2, 10)).unwrap_err().to_string();
        assert!(wider.contains("width 8 and 16") && wider.contains("start = \"fresh\""), "{wider}");
    }
}
