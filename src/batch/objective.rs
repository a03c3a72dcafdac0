//! What a language model is asked of its rows.

use super::Masking;
use crate::config::{DataPlan, Family, ObjectiveKind, Plan};

/// What a language model is asked of its rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Objective {
    /// The tokens that were masked (Devlin et al. 2019).
    Masked(Masking),
    /// At each token of a sentence, `[CLS]` included, the one that comes next, up to its `[SEP]` (Radford et al. 2018).
    Causal,
}

/// Which tokens of its segment a token attends to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TokenOrder {
    /// All of them.
    #[default]
    Bidirectional,
    /// Itself and those before it.
    Causal,
}

impl From<Masking> for Objective {
    fn from(masking: Masking) -> Self {
        Objective::Masked(masking)
    }
}

impl Objective {
    /// What a plan's models are asked of the rows that they are trained on.
    pub fn of(plan: &Plan) -> Self {
        Self::at_rate(plan, plan.data.mask_rate)
    }

    /// What they are asked of held-out rows.
    pub fn of_held_out(plan: &Plan) -> Self {
        Self::at_rate(plan, plan.data.held_out_rate())
    }

    fn at_rate(plan: &Plan, rate: f64) -> Self {
        let DataPlan { whole_word, rarity, .. } = plan.data;
        Self::of_family(plan.model.shape.family(), Masking { rate, whole_word, rarity })
    }

    /// What models of a family are asked, `masking` where some tokens are hidden from them.
    pub fn of_family(family: Family, masking: Masking) -> Self {
        match family.objective() {
            ObjectiveKind::Masked => Objective::Masked(masking),
            ObjectiveKind::Causal => Objective::Causal,
        }
    }

    /// Slots that a sentence of so many tokens uses, special ones not counted.
    pub fn count(&self, tokens: usize) -> usize {
        match self {
            Objective::Masked(masking) => masking.count(tokens),
            // `[CLS]` is asked too.
            Objective::Causal => tokens + 1,
        }
    }

    /// Which tokens a token may attend to without seeing what it is asked for.
    pub fn order(&self) -> TokenOrder {
        match self {
            Objective::Masked(_) => TokenOrder::Bidirectional,
            Objective::Causal => TokenOrder::Causal,
        }
    }
}
