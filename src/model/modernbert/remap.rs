//! Parameter remapping (Lee et al. 2023, appendix A.3), where layers are of two kinds.

use super::fit::LAYER;
use crate::config::ModernBertShape;
use crate::error::Result;
use crate::model::layers::{differing, expanded};
use crate::model::{HostTensor, Weights};

/// A student's starting weights: the teacher's embeddings, head and layers, its layers expanded to the student's depth.
///
/// The rule of [`expanded`] holds among global layers and among local ones apart: a layer's weights were trained
/// with its kind's reach and its kind's angles. Where a later layer copies the first, which has no norm before
/// attention, that norm starts as it is drawn: all ones.
///
/// # Errors
/// When the two differ in anything but depth, or the student has layers of a kind that the teacher has none of.
pub(in super::super) fn remap(teacher: &Weights, from: &ModernBertShape, to: &ModernBertShape) -> Result<Weights> {
    if *from != (ModernBertShape { layers: from.layers, ..to.clone() }) || from.layers == 0 {
        return Err(differing(
            from,
            to,
            &[
                ("width", |shape| shape.hidden.to_string()),
                ("heads", |shape| shape.heads.to_string()),
                ("feed-forward", |shape| shape.intermediate.to_string()),
                ("vocabulary", |shape| shape.vocab_size.to_string()),
                ("positions", |shape| shape.max_positions.to_string()),
                ("global_every", |shape| shape.global_every.to_string()),
                ("window", |shape| shape.window.to_string()),
                ("global_theta", |shape| shape.global_theta.to_string()),
                ("local_theta", |shape| shape.local_theta.to_string()),
                ("epsilon of the norms", |shape| format!("{:e}", shape.norm_epsilon)),
            ],
        ));
    }
    let kinds = [from, to].map(|shape| (0..shape.layers).map(|layer| shape.is_global(layer)).collect::<Vec<_>>());
    let mut out = expanded(teacher, LAYER, [&kinds[0], &kinds[1]], "of local attention")?;
    // The first layer has no norm before attention, whatever layer it copies.
    out.remove(&format!("{LAYER}0.attn_norm.weight"));
    for layer in 1..to.layers {
        let norm = format!("{LAYER}{layer}.attn_norm.weight");
        if out.get(&norm).is_none() {
            out.insert(&norm, HostTensor { shape: vec![to.hidden], values: vec![1.0; to.hidden] });
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn shape(layers: usize) -> ModernBertShape {
        ModernBertShape::new(20, 8, layers, 2, 10)
    }

    #[test]
    fn each_layer_is_the_teachers_of_its_kind() {
        let teacher = Weights::of(&shape(4).init(3, 0.02, &Device::flex()));
        let student = remap(&teacher, &shape(4), &shape(8)).unwrap();
        // Global: 0 and 3 of the teacher; 0, 3 and 6 of the student. Local: 1 and 2; 1, 2, 4, 5 and 7.
        for (layer, source) in [(0, 0), (3, 3), (6, 3), (1, 1), (2, 2), (4, 2), (5, 2), (7, 2)] {
            for part in ["attn.Wqkv.weight", "attn.Wo.weight", "mlp.Wi.weight", "mlp.Wo.weight", "mlp_norm.weight"] {
                let (copied, original) = (format!("{LAYER}{layer}.{part}"), format!("{LAYER}{source}.{part}"));
                assert_eq!(student.get(&copied), teacher.get(&original), "{copied}");
            }
        }
        let loaded = student.load_into(shape(8).init(9, 0.02, &Device::flex())).unwrap();
        assert_eq!(Weights::of(&loaded), student);
        assert_eq!(remap(&teacher, &shape(4), &shape(4)).unwrap(), teacher);
    }

    #[test]
    fn a_decoders_layers_are_copied_alike() {
        let decoder = |layers| ModernBertShape { is_causal: true, ..shape(layers) };
        let teacher = Weights::of(&decoder(4).init_decoder(3, 0.02, &Device::flex()));
        let student = remap(&teacher, &decoder(4), &decoder(8)).unwrap();
        for (layer, source) in [(0, 0), (3, 3), (6, 3), (1, 1), (4, 2), (7, 2)] {
            for part in ["attn.q_proj.weight", "attn.v_proj.weight", "mlp.Wi.weight"] {
                let (copied, original) = (format!("{LAYER}{layer}.{part}"), format!("{LAYER}{source}.{part}"));
                assert_eq!(student.get(&copied), teacher.get(&original), "{copied}");
            }
        }
        let loaded = student.load_into(decoder(8).init_decoder(9, 0.02, &Device::flex())).unwrap();
        assert_eq!(Weights::of(&loaded), student);
        assert_eq!(remap(&teacher, &decoder(4), &decoder(4)).unwrap(), teacher);
    }

    #[test]
    fn a_norm_that_the_first_layer_lacks_starts_at_one() {
        let teacher = Weights::of(&shape(3).init(3, 0.02, &Device::flex()));
        let student = remap(&teacher, &shape(3), &shape(6)).unwrap();
        assert_eq!(student.get(&format!("{LAYER}3.attn_norm.weight")).unwrap().values, [1.0; 8]);
        assert_eq!(student.get(&format!("{LAYER}3.attn.Wqkv.weight")), teacher.get(&format!("{LAYER}0.attn.Wqkv.weight")));
        student.load_into(shape(6).init(9, 0.02, &Device::flex())).unwrap();
    }

    #[test]
    fn a_deeper_teacher_is_sampled_kind_by_kind() {
        let teacher = Weights::of(&shape(7).init(3, 0.02, &Device::flex()));
        let student = remap(&teacher, &shape(7), &shape(4)).unwrap();
        for (layer, source) in [(0, 0), (3, 6), (1, 1), (2, 5)] {
            let of = |layer: usize| format!("{LAYER}{layer}.mlp.Wi.weight");
            assert_eq!(student.get(&of(layer)), teacher.get(&of(source)), "{layer}");
        }
    }

    #[test]
    fn what_cannot_be_copied_is_refused() {
        let refused = |to: ModernBertShape| remap(&Weights::default(), &shape(1), &to).unwrap_err().to_string();
        let wider = refused(ModernBertShape { hidden: 16, ..shape(4) });
        assert!(wider.contains("width 8 and 16") && wider.contains("start = \"fresh\""), "{wider}");
        assert!(refused(ModernBertShape { local_theta: 160_000, ..shape(4) }).contains("local_theta 10000 and 160000"));
        assert!(refused(shape(4)).contains("the teacher has none to copy"));
    }
}
