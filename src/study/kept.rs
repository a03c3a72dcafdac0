//! What a study keeps of its teachers' distributions.

use crate::config::{AnswersKind, AnswersPlan, GateKind, Plan, Positions, Start};
use crate::error::{Error, Result};

/// What of a teacher's distribution a study keeps: `top-k 12`, or `50 draws`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Kept {
    kind: AnswersKind,
    count: usize,
}

impl Kept {
    /// As a study file has it.
    pub fn parse(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let kept = match words[..] {
            ["top-k", count] => count.parse().ok().map(|count| Self { kind: AnswersKind::TopK, count }),
            [count, "draws"] => count.parse().ok().map(|count| Self { kind: AnswersKind::Draws, count }),
            _ => None,
        };
        kept.filter(|kept| kept.count > 0).ok_or_else(|| {
            Error::new(format!("`answers` is {text:?}, which is nothing to keep of a distribution"))
                .help("write answers = \"top-k 12\", or \"50 draws\"")
        })
    }

    /// The plan of a run that reads a teacher's answers in the place of its teacher, where it can: it listens to a
    /// model at masked positions, at one temperature. The answers are known by the teacher, before anybody is asked.
    pub fn plan(self, plan: Plan) -> Plan {
        let distill = &plan.distill;
        let knows = self.kind == AnswersKind::TopK || distill.gate.kind != GateKind::TeacherRight;
        let knows = knows && distill.fade == 0.0 && distill.features().next().is_none();
        let knows = knows && plan.teacher.as_ref().is_none_or(|teacher| teacher.others.is_empty());
        let listens =
            distill.positions == Positions::Masked && distill.start == Start::Fresh && distill.divergence.is_kl() && knows;
        let model = plan.teacher.as_ref().and_then(|teacher| teacher.model.clone());
        let (true, Some(model), Some(temperature)) = (listens, model, plan.taught_temperature()) else { return plan };
        if plan.taught_steps().is_empty() {
            return plan;
        }
        let Self { kind, count } = self;
        let content_hash = format!("{kind} {count} at {temperature} of {}", model.content_hash);
        let answers = AnswersPlan { content_hash, teacher: model.content_hash, kind, count, temperature };
        let mut plan = plan;
        if let Some(teacher) = &mut plan.teacher {
            (teacher.model, teacher.answers) = (None, Some(answers));
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_as_it_is_written() {
        assert_eq!(Kept::parse("top-k 12").unwrap(), Kept { kind: AnswersKind::TopK, count: 12 });
        assert_eq!(Kept::parse("50 draws").unwrap(), Kept { kind: AnswersKind::Draws, count: 50 });
        for wrong in ["", "top-k", "12", "top-k 0", "draws 50", "top-k twelve"] {
            assert!(Kept::parse(wrong).unwrap_err().to_string().contains("top-k 12"), "{wrong}");
        }
    }
}
