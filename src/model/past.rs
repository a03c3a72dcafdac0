//! What a causal model keeps of the tokens that it has read.

use crate::kernels::PastLayer;

/// Keys and values of each layer, of all tokens so far that later ones see.
#[derive(Debug, Clone, Default)]
pub struct Past {
    tokens: usize,
    pub(super) layers: Vec<PastLayer>,
}

impl Past {
    /// Where the next `count` tokens stand, which join the past of a model of so many layers.
    pub(super) fn positions(&mut self, count: usize, layers: usize) -> Vec<i32> {
        self.layers.resize(layers, None);
        let before = self.tokens;
        self.tokens += count;
        (before..self.tokens).map(|at| at as i32).collect()
    }
}
