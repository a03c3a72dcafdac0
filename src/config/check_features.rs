//! What can't be, of losses between layers of a student and of its teacher.

use super::RunFile;
use super::features::{FeatureKind, LayerMap, LayersPlan};
use super::mistakes::Mistakes;
use super::plan::*;
use super::shape::{ObjectiveKind, Shape};

/// What their keys say, and whether there are two models that have such layers.
pub(super) fn features(file: &RunFile, plan: &Plan, out: &mut Mistakes) {
    let Some(teacher) = &plan.teacher else { return };
    for (kind, _) in plan.distill.features() {
        let (key, _) = kind.keys();
        if !plan.models.is_empty() {
            let what = "is for a student with a fixed teacher, and models that train together listen to predictions alone";
            out.add(key, what, "remove it, or write method = \"dwt\"");
        } else if !teacher.others.is_empty() {
            out.add(key, "compares layers, and an ensemble has none of its own", "remove it, or [teachers]");
        } else if let Some(model) = &teacher.model {
            sizes(kind, &plan.model.shape, &model.shape, out);
        } else if !teacher.is_in_memory() || teacher.from == UNIFORM {
            let what = "compares layers, and a cache, a program and the uniform teacher have predictions alone";
            out.add(key, what, "remove it, or name the teacher itself in teacher.from");
        } // else: why the teacher was not found is told elsewhere
    }
    for (kind, losses) in plan.distill.layers.iter() {
        layers(kind, losses, file, plan, out);
    }
    unused(file, plan, out);
}

/// Widths of last layers that are compared as they are.
fn sizes(kind: FeatureKind, student: &Shape, teacher: &Shape, out: &mut Mistakes) {
    let (own, theirs) = (student.hidden(), teacher.hidden());
    if kind == FeatureKind::Cosine && own != theirs {
        let what = format!("compares last layers of one width, and the student's is {own}, the teacher's {theirs}");
        out.add("distill.cosine", what, format!("write [model] hidden = {theirs}, or remove it"));
    }
}

/// Which layers are compared, and in how many heads.
fn layers(kind: FeatureKind, losses: &LayersPlan, file: &RunFile, plan: &Plan, out: &mut Mistakes) {
    let Some(key) = kind.keys().1 else { return };
    if let Some(error) = file.text(key).and_then(|text| text.parse::<LayerMap>().err()) {
        return out.add(key, error, "write the student's layer, a colon and the teacher's, a comma between pairs");
    }
    let Some(teacher) = plan.teacher.as_ref().and_then(|teacher| teacher.model.as_ref()) else { return };
    let (student, teacher) = (&plan.model.shape, &teacher.shape);
    let (own, theirs) = (student.layers(), teacher.layers());
    if let Some([a, b]) = losses.layers.pairs().iter().find(|[a, b]| *a > own || *b > theirs) {
        let what = format!("{a}:{b} is not there: the student has {own} layers, the teacher {theirs}");
        return out.add(key, what, format!("write numbers up to {own}:{theirs}"));
    }
    if kind == FeatureKind::Relations {
        if [student, teacher].iter().any(|shape| shape.family().objective() == ObjectiveKind::Causal) {
            let what = "is of encoders, whose positions see each other; causal models are not compared by it";
            return out.add("distill.relations", what, "remove it, or take distill.hidden");
        }
        if losses.layers.pairs().iter().any(|pair| pair.contains(&0)) {
            return out.add(key, "layer 0 is the embeddings, which attend to nothing", "write numbers from 1");
        }
        let heads = losses.heads;
        let divides = |width: usize| heads > 0 && width.is_multiple_of(heads);
        if !divides(student.hidden()) || !divides(teacher.hidden()) {
            let what = format!("{heads} heads do not divide the widths, {} and {}", student.hidden(), teacher.hidden());
            let both = (1..=64).rev().find(|heads| [student, teacher].iter().all(|s| s.hidden().is_multiple_of(*heads)));
            out.add("distill.relation_heads", what, format!("write {}, or another number that does", both.unwrap_or(1)));
        }
    }
}

/// Layers that are written for a loss that is not there.
fn unused(file: &RunFile, plan: &Plan, out: &mut Mistakes) {
    let has = |kind: FeatureKind| plan.distill.features().any(|(own, _)| own == kind);
    let keys = FeatureKind::WITH_LAYERS.map(|kind| (kind, kind.keys().1));
    let heads = (FeatureKind::Relations, Some("distill.relation_heads"));
    for (kind, key) in keys.into_iter().chain([heads]) {
        let (weight, _) = kind.keys();
        if let Some(key) = key.filter(|key| file.has_written(key) && !has(kind)) {
            out.add(key, format!("is of a loss that has no weight, {weight}"), format!("write {weight} too, or remove it"));
        }
    }
}
