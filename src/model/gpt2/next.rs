//! A model read on from where it is: keys and values of earlier positions are kept, and worked out once.

use burn::tensor::Tensor;

use super::Gpt2;
use crate::device::Compute;
use crate::kernels::{Dropout, Heads, Places, next_attention};
use crate::model::past::Past;

impl Gpt2 {
    /// The normed state of the last of `ids`, which follow the tokens of `past` and join them: `[1, d]`, without
    /// dropout.
    ///
    /// # Panics
    /// Without an id.
    pub(in super::super) fn next(&self, ids: &[i32], past: &mut Past, compute: &Compute) -> Tensor<2> {
        let (device, count) = (&compute.device, ids.len());
        let positions = past.positions(count, self.h.len());
        let heads = Heads { queries: self.shape.heads, keys: self.shape.heads };
        let mut x_nd = self.embedded(&Places::new(ids, device), &Places::new(&positions, device), compute);
        for (layer, past) in self.h.iter().zip(&mut past.layers) {
            let context_nd = next_attention(layer.read(x_nd.clone(), compute), heads, None, None, past, compute);
            x_nd = layer.after(context_nd, x_nd, &mut Dropout::off(), compute);
        }
        self.ln_f.forward(x_nd.narrow(0, count - 1, 1), compute)
    }
}
