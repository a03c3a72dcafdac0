"""Makes tests/golden/bf16.json: dense layers as PyTorch's `autocast` multiplies them in bf16 on a CPU, with their gradients.

    pip install torch
    python tests/golden/bf16.py

Inputs are whole numbers of 2^-10, so that the file is short, of more bits than bf16's 8, so that they are rounded. What comes from above is
exact in bf16.
"""

import json
from pathlib import Path

import torch
from torch.nn.functional import linear

torch.set_num_threads(1)
torch.manual_seed(28)


def drawn(*shape, bits=11):
    """Multiples of 2^-10 within 2, or fewer bits."""
    return torch.randint(-(2**bits), 2**bits, shape).float() / 2 ** (bits - 1)


def case(n, d, f):
    x_nd, weight_df, above_nf = drawn(n, d), drawn(d, f), drawn(n, f, bits=7)
    x, weight = x_nd.clone().requires_grad_(), weight_df.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = linear(x, weight.T)
    assert value.dtype == torch.bfloat16
    value.backward(above_nf.bfloat16())
    flat = lambda tensor: tensor.float().flatten().tolist()
    whole = lambda tensor: (tensor.flatten() * 1024).int().tolist()
    return {
        "n": n, "d": d, "f": f,
        "x_nd": whole(x_nd), "weight_df": whole(weight_df), "above_nf": whole(above_nf),
        "value_nf": flat(value), "of_x_nd": flat(x.grad), "of_weight_df": flat(weight.grad),
    }


cases = [case(*sizes) for sizes in [(1, 1, 1), (3, 5, 7), (17, 35, 9)]]
text = json.dumps({"torch": torch.__version__, "cases": cases}, separators=(",", ":"))
(Path(__file__).parent / "bf16.json").write_text(text.replace('"n":', '\n"n":') + "\n")
