//! Parameter remapping (Lee et al. 2023, appendix A.3), where layers may be of two kinds.

use super::fit::LAYER;
use crate::config::LlamaShape;
use crate::error::Result;
use crate::model::Weights;
use crate::model::layers::{differing, expanded};

/// A student's starting weights: the teacher's embeddings, head and layers, its layers expanded to the student's depth.
///
/// The rule of [`expanded`] holds among layers with rotary positions and among those without apart: a layer's
/// weights were trained with its kind's angles.
///
/// # Errors
/// When the two differ in anything but depth, or the student has layers of a kind that the teacher has none of.
pub(in super::super) fn remap(teacher: &Weights, from: &LlamaShape, to: &LlamaShape) -> Result<Weights> {
    if *from != (LlamaShape { layers: from.layers, ..to.clone() }) || from.layers == 0 {
        return Err(differing(
            from,
            to,
            &[
                ("width", |shape| shape.hidden.to_string()),
                ("heads", |shape| shape.heads.to_string()),
                ("kv_heads", |shape| shape.kv_heads.to_string()),
                ("head_dim", |shape| shape.head_dim.to_string()),
                ("feed-forward", |shape| shape.intermediate.to_string()),
                ("vocabulary", |shape| shape.vocab_size.to_string()),
                ("positions", |shape| shape.max_positions.to_string()),
                ("rope_theta", |shape| shape.rope_theta.to_string()),
                ("no_rope_every", |shape| shape.no_rope_every.to_string()),
                ("tied", |shape| shape.tied.to_string()),
                ("qk_norm", |shape| shape.qk_norm.to_string()),
                ("epsilon of the norms", |shape| format!("{:e}", shape.norm_epsilon)),
            ],
        ));
    }
    let kinds = [from, to].map(|shape| (0..shape.layers).map(|layer| shape.is_rotary(layer)).collect::<Vec<_>>());
    expanded(teacher, LAYER, [&kinds[0], &kinds[1]], "without rotary positions")
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn shape(layers: usize) -> LlamaShape {
        LlamaShape { no_rope_every: 3, tied: false, kv_heads: 1, ..LlamaShape::new(20, 8, layers, 2, 10) }
    }

    #[test]
    fn each_layer_is_the_teachers_of_its_kind_and_a_decoder_comes_along() {
        let teacher = Weights::of(&shape(4).init(3, 0.02, &Device::flex()));
        let student = remap(&teacher, &shape(4), &shape(8)).unwrap();
        // Without positions: 2 of the teacher; 2 and 5 of the student. With: 0, 1, 3; 0, 1, 3, 4, 6 and 7.
        for (layer, source) in [(2, 2), (5, 2), (0, 0), (1, 1), (3, 3), (4, 3), (6, 3), (7, 3)] {
            for part in ["self_attn.q_proj.weight", "self_attn.k_proj.weight", "mlp.down_proj.weight", "input_layernorm.weight"] {
                let (copied, original) = (format!("{LAYER}{layer}.{part}"), format!("{LAYER}{source}.{part}"));
                assert_eq!(student.get(&copied), teacher.get(&original), "{copied}");
            }
        }
        assert_eq!(student.get("lm_head.weight"), teacher.get("lm_head.weight"));
        let loaded = student.load_into(shape(8).init(9, 0.02, &Device::flex())).unwrap();
        assert_eq!(Weights::of(&loaded), student);
        assert_eq!(remap(&teacher, &shape(4), &shape(4)).unwrap(), teacher);
    }

    #[test]
    fn what_cannot_be_copied_is_refused() {
        let refused = |from: usize, to: LlamaShape| remap(&Weights::default(), &shape(from), &to).unwrap_err().to_string();
        let wider = refused(1, LlamaShape { hidden: 16, ..shape(4) });
        assert!(wider.contains("width 8 and 16") && wider.contains("start = \"fresh\""), "{wider}");
        assert!(refused(1, LlamaShape { tied: true, ..shape(4) }).contains("tied false and true"));
        assert!(refused(2, shape(4)).contains("the teacher has none to copy"));
    }
}
