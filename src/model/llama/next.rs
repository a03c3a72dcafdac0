//! A model read on from where it is: keys and values of earlier positions are kept, and worked out once.

use burn::tensor::Tensor;

use super::Llama;
use crate::device::Compute;
use crate::kernels::{Dropout, Heads, Places, Rotary, look_up, next_attention};
use crate::model::past::Past;

impl Llama {
    /// The normed state of the last of `ids`, which follow the tokens of `past` and join them: `[1, d]`, without
    /// dropout.
    ///
    /// # Panics
    /// Without an id.
    pub(in super::super) fn next(&self, ids: &[i32], past: &mut Past, compute: &Compute) -> Tensor<2> {
        let (shape, device, count) = (&self.shape, &compute.device, ids.len());
        let positions = Places::new(&past.positions(count, self.layers.len()), device);
        let rotary = Rotary::scaled(&positions, shape.head_dim, shape.rope_theta as f64, shape.rope_scaling);
        let heads = Heads { queries: shape.heads, keys: shape.kv_heads };
        let mut x_nd = look_up(self.embed_tokens.weight.val(), &Places::new(ids, device), compute);
        for (i, (layer, past)) in self.layers.iter().zip(&mut past.layers).enumerate() {
            let rotary = Some(&rotary).filter(|_| shape.is_rotary(i));
            let context_ne = next_attention(layer.read(x_nd.clone(), compute), heads, rotary, None, past, compute);
            x_nd = layer.after(context_ne, x_nd, &mut Dropout::off(), compute);
        }
        self.norm.forward(x_nd.narrow(0, count - 1, 1), compute)
    }
}
