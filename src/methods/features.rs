//! Losses between layers of a student and of its teacher, at every real token.

use burn::module::Param;
use burn::tensor::Tensor;

use super::Settings;
use crate::config::{FeatureKind, LayerLosses};
use crate::kernels::{Sight, in_f32};
use crate::loss::{cosine_loss, hidden_loss, relation_loss};
use crate::model::{Inside, Projections};

/// What these settings need from inside the student and the teacher.
pub(super) fn wanted(losses: &LayerLosses, at: &[Settings]) -> [Inside; 2] {
    let mut both = [Inside::default(), Inside::default()];
    let is_on = |kind| at.iter().flat_map(|at| &at.features).any(|feature| feature.kind == kind && feature.alpha != 0.0);
    for (kind, plan) in losses.iter().filter(|(kind, _)| is_on(*kind)) {
        for pair in plan.layers.pairs() {
            for (inside, layer) in both.iter_mut().zip(pair) {
                match kind {
                    FeatureKind::Relations => inside.want_attended(*layer),
                    FeatureKind::Cosine | FeatureKind::Hidden | FeatureKind::Early => inside.want_states(*layer),
                }
            }
        }
    }
    both
}

/// A loss between the layers that are mapped, summed over their pairs, a position: `[n]`. None where the teacher has no
/// such layers.
pub(super) fn between(
    kind: FeatureKind,
    losses: &LayerLosses,
    student: &Inside,
    teacher: &Inside,
    projections: &Projections,
    sight: &Sight,
) -> Option<Tensor<1>> {
    let (_, plan) = losses.iter().find(|(own, _)| *own == kind)?;
    let states = |[own, theirs]: [usize; 2]| Some((in_f32(student.states(own)?), in_f32(teacher.states(theirs)?)));
    let of_pair = |pair: &[usize; 2]| match kind {
        FeatureKind::Cosine => None, // is of last layers where soft losses are taken
        FeatureKind::Hidden => {
            let (own_nd, theirs_nd) = states(*pair)?;
            let matrix = if pair[0] == 0 { &projections.embedded } else { &projections.hidden };
            Some(hidden_loss(projected(own_nd, matrix), theirs_nd))
        }
        FeatureKind::Early => {
            let (own_nd, theirs_nd) = states(*pair)?;
            Some(cosine_loss(projected(own_nd, &projections.early), theirs_nd))
        }
        FeatureKind::Relations => {
            let (own, theirs) = (student.attended(pair[0])?, teacher.attended(pair[1])?);
            let relations = own.into_iter().zip(theirs);
            let losses = relations.map(|(own_nd, theirs_nd)| relation_loss(in_f32(own_nd), in_f32(theirs_nd), plan.heads, sight));
            losses.reduce(|a, b| a + b)
        }
    };
    let losses: Option<Vec<Tensor<1>>> = plan.layers.pairs().iter().map(of_pair).collect();
    losses?.into_iter().reduce(|a, b| a + b)
}

/// Through a learnt matrix, where there is one.
fn projected(x_nd: Tensor<2>, matrix: &Option<Param<Tensor<2>>>) -> Tensor<2> {
    match matrix {
        Some(matrix) => x_nd.matmul(matrix.val()),
        None => x_nd,
    }
}
