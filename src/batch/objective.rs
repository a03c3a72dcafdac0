//! What a language model is asked of its rows.

use super::Masking;

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
