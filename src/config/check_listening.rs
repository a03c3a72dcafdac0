//! What can't be, of how a student listens to its teacher.

use super::RunFile;
use super::kept::AnswersKind;
use super::listening::{Divergence, DivergenceKind, Gate, GateKind};
use super::mistakes::Mistakes;
use super::plan::*;
use super::schedule::number;

pub(super) fn divergence(file: &RunFile, plan: &Plan, out: &mut Mistakes) {
    let Divergence { kind, beta } = plan.distill.divergence;
    if kind == DivergenceKind::JensenShannon && !(beta > 0.0 && beta < 1.0) {
        let fix = "write a number between 0 and 1, such as 0.5; for the ends take divergence = \"kl\" and \"reverse-kl\"";
        out.add("distill.beta", format!("is {}", number(beta)), fix);
    }
    if kind != DivergenceKind::JensenShannon && file.has_written("distill.beta") {
        out.add("distill.beta", format!("{kind} has none"), "remove it, or write divergence = \"jensen-shannon\"");
    }
    if kind != DivergenceKind::Kl && plan.teacher.as_ref().is_some_and(|teacher| teacher.answers.is_some()) {
        let what = format!("{kind} needs whole distributions, and the teacher is a cache of what was kept of them");
        out.add("distill.divergence", what, "write divergence = \"kl\", or name the teacher itself");
    }
}

/// `[distill] fade`.
pub(super) fn fade(file: &RunFile, plan: &Plan, out: &mut Mistakes) {
    let Some(teacher) = plan.teacher.as_ref().filter(|_| file.has_written("distill.fade")) else { return };
    if !plan.models.is_empty() {
        let what = "is for a student with a fixed teacher, and models that train together have weights of their own";
        out.add("distill.fade", what, "remove it, or write method = \"dwt\"");
    } else if !teacher.is_in_memory() {
        let what = "needs the teacher's held-out loss, and the teacher is not in memory";
        out.add("distill.fade", what, "remove it, or name the teacher itself in teacher.from");
    }
}

/// `[distill] gate`.
pub(super) fn gate(file: &RunFile, plan: &Plan, out: &mut Mistakes) {
    let Gate { kind, share, .. } = plan.distill.gate;
    if kind != GateKind::LowestEntropy && file.has_written("distill.gate_share") && plan.teacher.is_some() {
        out.add("distill.gate_share", "is of another gate", "remove it, or write gate = \"lowest-entropy\"");
    }
    if kind == GateKind::Open {
        if file.flag("distill.switch") && plan.teacher.is_some() {
            out.add("distill.switch", "there is no gate to switch by", "remove it, or write gate = \"lowest-entropy\"");
        }
        return;
    }
    if !plan.models.is_empty() {
        let what = format!("{kind} is for a student with a fixed teacher, and models that train together have none");
        return out.add("distill.gate", what, "remove it, or write method = \"dwt\"");
    }
    if kind == GateKind::LowestEntropy && !(share > 0.0 && share <= 1.0) {
        out.add("distill.gate_share", format!("is {}", number(share)), "write a number above 0 and up to 1, such as 0.2");
    }
    if plan.distill.positions == Positions::All {
        let what = format!("{kind} chooses among masked positions, and the soft loss is taken at all");
        out.add("distill.gate", what, "write positions = \"masked\", or remove the gate");
    }
    let answers = plan.teacher.as_ref().and_then(|teacher| teacher.answers.as_ref());
    if kind == GateKind::TeacherRight && answers.is_some_and(|answers| answers.kind == AnswersKind::Draws) {
        let what = "draws do not tell which token the teacher finds likeliest";
        out.add("distill.gate", what, "have the teacher answer with --top-k, or name the teacher itself");
    }
}
