//! Grouped attention on a GPU: queries and keys are turned by the pass that parts their heads, and their gradients
//! turned back by the one that puts these side by side again.

use burn::tensor::{DType, Tensor};
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;

use super::Heads;
use crate::device::Compute;
use crate::kernels::attention::Sight;
use crate::kernels::attention::cube::{Attended, Sizes};
use crate::kernels::dropout::Mask;
use crate::kernels::gpu::{GpuBackward, on_gpu, with_gradient};
use crate::kernels::graph::Parent;
use crate::kernels::rotary::Rotary;
use crate::kernels::rotary::cube::Turn;
use crate::kernels::spent::{self, Part};

/// See [`grouped_attention`](super::grouped_attention).
pub(super) fn grouped_attention(
    inputs: [Tensor<2>; 3],
    heads: Heads,
    sight: &Sight,
    rotary: Option<&Rotary>,
    mask: Option<Mask>,
    compute: &Compute,
) -> Tensor<2> {
    let of = inputs.each_ref().map(on_gpu);
    let forward = || {
        let [n, d] = [of[0].meta.shape()[0], of[0].meta.shape()[1]];
        let of_queries = Sizes::of(n, d, heads.queries, sight);
        let of_keys = Sizes { heads: heads.keys, ..of_queries };
        let turn = rotary.map(|rotary| Turn::of(rotary, &of[0]));
        let apart = |x: &CubeTensor, sizes: Sizes, turn: Option<&Turn>| match turn {
            Some(turn) => turn.apart(x.clone(), sizes, compute.dtype()),
            None => sizes.heads_apart(cast(x.clone(), compute.dtype())),
        };
        let [query, key, value] = &of;
        let parts = [apart(query, of_queries, turn.as_ref()), apart(key, of_keys, turn.as_ref()), apart(value, of_keys, None)];
        let (out, attended) = Attended::of(parts, of_queries, sight, mask, compute.kernels);
        (out, Saved { attended, turn, sizes: [of_queries, of_keys], came_in: of.each_ref().map(|x| x.dtype) })
    };
    let (out, saved) = spent::on_gpu(Part::Attention, &of[0], forward);
    with_gradient(out, inputs.map(Parent::of), saved)
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    attended: Attended,
    turn: Option<Turn>,
    /// Of queries, and of keys and values.
    sizes: [Sizes; 2],
    came_in: [DType; 3],
}

impl GpuBackward<3> for Saved {
    fn part(&self) -> Part {
        Part::Attention
    }

    fn backward(&self, above: CubeTensor, _: [bool; 3]) -> [Option<CubeTensor>; 3] {
        let [of_queries, of_keys] = self.sizes;
        let together = |x: CubeTensor, sizes: Sizes, turn: Option<&Turn>, numbers: DType| match turn {
            Some(turn) => turn.together(x, sizes, numbers),
            None => cast(sizes.heads_together(x), numbers),
        };
        let [query, key, value] = self.attended.backward(above);
        let [like_query, like_key, like_value] = self.came_in;
        [
            Some(together(query, of_queries, self.turn.as_ref(), like_query)),
            Some(together(key, of_keys, self.turn.as_ref(), like_key)),
            Some(together(value, of_keys, None, like_value)),
        ]
    }
}
