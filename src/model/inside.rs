//! What a forward pass has inside, for losses between layers of two models.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

/// Hidden states and attention's inputs that are wanted of a forward pass, and, after it, what they were.
///
/// Layers are numbered as `transformers` numbers hidden states: 0 is what the first layer reads, and the highest number
/// is the last layer, after a final norm where the family has one.
#[derive(Debug, Clone, Default)]
pub struct Inside {
    states: BTreeMap<usize, Option<Tensor<2>>>,
    attended: BTreeMap<usize, Option<[Tensor<2>; 3]>>,
}

impl Inside {
    /// Wants the hidden states after a layer, of every position.
    pub fn want_states(&mut self, layer: usize) {
        self.states.insert(layer, None);
    }

    /// Wants the queries, keys and values of a layer, of every position; before rotary positions turn them.
    pub fn want_attended(&mut self, layer: usize) {
        self.attended.insert(layer, None);
    }

    /// The hidden states after a layer, `[n, d]`; none where they were not wanted, or the model has no such layer.
    pub fn states(&self, layer: usize) -> Option<Tensor<2>> {
        self.states.get(&layer).cloned().flatten()
    }

    /// Queries, keys and values of a layer, `[n, d]` each; likewise.
    pub fn attended(&self, layer: usize) -> Option<[Tensor<2>; 3]> {
        self.attended.get(&layer).cloned().flatten()
    }

    /// Whether every position of a layer is wanted.
    pub(super) fn wants_states(&self, layer: usize) -> bool {
        self.states.contains_key(&layer)
    }

    /// Keeps the hidden states after a layer, where they are wanted.
    pub(super) fn keep_states(&mut self, layer: usize, states_nd: &Tensor<2>) {
        if let Some(kept) = self.states.get_mut(&layer) {
            *kept = Some(states_nd.clone());
        }
    }

    /// Keeps a layer's queries, keys and values, where they are wanted.
    pub(super) fn keep_attended(&mut self, layer: usize, of_layer: impl FnOnce() -> [Tensor<2>; 3]) {
        if let Some(kept) = self.attended.get_mut(&layer) {
            *kept = Some(of_layer());
        }
    }
}
