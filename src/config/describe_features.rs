//! Losses between layers, in words.

use super::features::FeatureKind;
use super::plan::DistillPlan;

/// Each with its layers and its weight, after a semicolon; last layers are compared `at` some positions.
pub(super) fn features_text(distill: &DistillPlan, at: &str) -> String {
    let cosine = distill.cosine.iter().map(|weight| format!("; 1 - cosine between last layers {weight} at {at}"));
    let layers = distill.layers.iter().map(|(kind, plan)| {
        let (weight, layers, heads) = (&plan.weight, &plan.layers, plan.heads);
        match kind {
            FeatureKind::Cosine => String::new(), // has no layers of its own
            FeatureKind::Hidden => format!("; mean square between layers {layers}, projected, {weight}"),
            FeatureKind::Relations => format!("; attention relations of layers {layers} in {heads} heads {weight}"),
            FeatureKind::Early => format!("; 1 - cosine between layers {layers}, projected, {weight}"),
        }
    });
    cosine.chain(layers).collect()
}

/// Where it is from.
pub(super) fn feature_note(kind: FeatureKind) -> &'static str {
    match kind {
        FeatureKind::Cosine => "last layers are compared by their cosine (Sanh et al. 2019): not in the paper",
        FeatureKind::Hidden => {
            "layers are compared by their mean square, the student's through a learnt projection, a mean over real tokens \
             (Jiao et al. 2020, equations 8 and 9; no attention loss): not in the paper"
        }
        FeatureKind::Relations => {
            "layers are compared by their self-attention relations, a mean over real tokens (Wang et al. 2021): not in the paper"
        }
        FeatureKind::Early => {
            "an early layer is compared with the teacher's last by their cosine, through a learnt projection, a mean over real \
             tokens (Zhao et al. 2026; which layer, and when it ends, is chosen here): not in the paper"
        }
    }
}
