//! Parameter remapping (Lee et al. 2023, appendix A.3), where layers may be of two kinds.

use super::fit::LAYER;
use crate::config::LlamaShape;
use crate::error::{Error, Result};
use crate::model::Weights;
use crate::model::layers::{layer_of, source_layer};

/// A student's starting weights: the teacher's embeddings, head and layers, its layers expanded to the student's depth.
///
/// The rule of [`source_layer`] holds among layers with rotary positions and among those without apart: a layer's
/// weights were trained with its kind's angles.
///
/// # Errors
/// When the two differ in anything but depth, or the student has layers of a kind that the teacher has none of.
pub(in super::super) fn remap(teacher: &Weights, from: &LlamaShape, to: &LlamaShape) -> Result<Weights> {
    if *from != (LlamaShape { layers: from.layers, ..to.clone() }) || from.layers == 0 {
        return Err(differing(from, to));
    }
    let of_kind = |shape: &LlamaShape, is_rotary: bool| -> Vec<usize> {
        (0..shape.layers).filter(|&layer| shape.is_rotary(layer) == is_rotary).collect()
    };
    let mut out = Weights::default();
    for (name, tensor) in teacher.iter().filter(|(name, _)| layer_of(LAYER, name).is_none()) {
        out.insert(name, tensor.clone());
    }
    for is_rotary in [true, false] {
        let (theirs, own) = (of_kind(from, is_rotary), of_kind(to, is_rotary));
        if theirs.is_empty() && !own.is_empty() {
            return Err(Error::new("the student has layers without rotary positions, and the teacher has none to copy")
                .help("take a deeper teacher, or start = \"fresh\""));
        }
        for (i, &layer) in own.iter().enumerate() {
            let source = theirs[source_layer(i, theirs.len(), own.len())];
            for (name, tensor) in teacher.iter() {
                if let Some((_, rest)) = layer_of(LAYER, name).filter(|(of, _)| *of == source) {
                    out.insert(&format!("{LAYER}{layer}.{rest}"), tensor.clone());
                }
            }
        }
    }
    Ok(out)
}

fn differing(from: &LlamaShape, to: &LlamaShape) -> Error {
    let of = |what: &str, [theirs, own]: [usize; 2]| format!("{what} {theirs} and {own}");
    let sizes = [
        of("width", [from.hidden, to.hidden]),
        of("heads", [from.heads, to.heads]),
        of("kv_heads", [from.kv_heads, to.kv_heads]),
        of("head_dim", [from.head_dim, to.head_dim]),
        of("feed-forward", [from.intermediate, to.intermediate]),
        of("vocabulary", [from.vocab_size, to.vocab_size]),
        of("positions", [from.max_positions, to.max_positions]),
        of("rope_theta", [from.rope_theta, to.rope_theta]),
        of("no_rope_every", [from.no_rope_every, to.no_rope_every]),
        format!("tied {} and {}", from.tied, to.tied),
        format!("qk_norm {} and {}", from.qk_norm, to.qk_norm),
        format!("epsilon of the norms {:e} and {:e}", from.norm_epsilon, to.norm_epsilon),
    ];
    Error::new(format!(
        "remapping copies weights as they are, and the teacher's sizes differ from the student's: {}",
        sizes.join(", ")
    ))
    .help("give the student the teacher's sizes (only the depth may differ), or start = \"fresh\"")
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
