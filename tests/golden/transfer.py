"""Makes tests/golden/transfer.json: a BiLSTM student and the losses of Mukherjee and Awadallah 2019, by PyTorch in float64.

    pip install torch numpy
    python tests/golden/transfer.py

`torch.nn.LSTM` on packed rows of several lengths (forward and backward), max-pooling with padding left out, last states, the
projection with GELU, both heads; the sum of all losses and its gradient by every parameter.
"""

import torch
from torch.nn.functional import cross_entropy, gelu
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from make import VERSIONS, write_json

torch.set_default_dtype(torch.float64)
V, W, H, D, C = 11, 3, 4, 5, 3
ROWS = [[1, 5, 2, 7, 3, 9], [4, 4, 10, 6], [8, 2, 1], [3]]
LABELS = [2, 0, 1, 1]


def student(seed):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: (torch.rand(*shape, generator=generator) - 0.5).requires_grad_()
    shapes = {
        "bilstm.words.weight": (V, W),
        "bilstm.forward.input.weight": (4 * H, W), "bilstm.forward.input.bias": (4 * H,), "bilstm.forward.recurrent.weight": (4 * H, H),
        "bilstm.backward.input.weight": (4 * H, W), "bilstm.backward.input.bias": (4 * H,), "bilstm.backward.recurrent.weight": (4 * H, H),
        "projection.weight": (D, 2 * H), "projection.bias": (D,),
        "classifier.weight": (C, D), "classifier.bias": (C,), "regression.weight": (C, D), "regression.bias": (C,),
    }
    return {name: draw(*shape) for name, shape in shapes.items()}


def encode(p, pooling):
    longest = max(map(len, ROWS))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in ROWS])
    lengths = torch.tensor([len(row) for row in ROWS])
    lstm = torch.nn.LSTM(W, H, batch_first=True, bidirectional=True)
    names = {"weight_ih": "input.weight", "bias_ih": "input.bias", "weight_hh": "recurrent.weight"}
    weights = {f"{theirs}_l0{end}": p[f"bilstm.{direction}.{ours}"] for theirs, ours in names.items()
               for end, direction in [("", "forward"), ("_reverse", "backward")]}
    weights |= {f"bias_hh_l0{end}": torch.zeros(4 * H) for end in ["", "_reverse"]}
    packed = pack_padded_sequence(p["bilstm.words.weight"][ids], lengths, batch_first=True)
    states, (last, _) = torch.func.functional_call(lstm, weights, (packed,))
    if pooling == "last":
        return torch.cat([last[0], last[1]], 1)
    states, _ = pad_packed_sequence(states, batch_first=True, padding_value=float("-inf"))
    return states.max(1).values


def case(pooling, seed):
    p = student(seed)
    encoded = encode(p, pooling)
    represented = gelu(encoded @ p["projection.weight"].T + p["projection.bias"])
    logits = represented @ p["classifier.weight"].T + p["classifier.bias"]
    scores = represented @ p["regression.weight"].T + p["regression.bias"]
    generator = torch.Generator().manual_seed(seed + 100)
    teacher_logits = 3 * torch.randn(len(ROWS), C, generator=generator)
    teacher_representation = torch.tanh(torch.randn(len(ROWS), D, generator=generator))
    probabilities = torch.softmax(teacher_logits, 1)
    odds = torch.log(probabilities / (1 - probabilities))
    rows = {
        "cross_entropy": cross_entropy(logits, torch.tensor(LABELS), reduction="none"),
        "logits_mean": ((scores - odds) ** 2).mean(1), "logits_sum": 0.5 * ((scores - odds) ** 2).sum(1),
        "representation_mean": ((represented - teacher_representation) ** 2).mean(1),
        "representation_sum": 0.5 * ((represented - teacher_representation) ** 2).sum(1),
    }
    total = 10 * rows["cross_entropy"].mean() + 10 * rows["representation_mean"].mean() + rows["logits_mean"].mean()
    total.backward()
    flat = lambda tensor: tensor.detach().flatten().tolist()
    return {
        "pooling": pooling, "weights": {name: {"shape": list(t.shape), "values": flat(t)} for name, t in p.items()},
        "encoded": flat(encoded), "represented": flat(represented), "logits": flat(logits), "scores": flat(scores),
        "teacher_logits": flat(teacher_logits), "teacher_representation": flat(teacher_representation), "odds": flat(odds),
        "rows": {name: flat(loss) for name, loss in rows.items()}, "total": total.item(),
        "gradients": {name: flat(t.grad) for name, t in p.items()},
    }


def main():
    cases = [case("max", 1), case("last", 2)]
    write_json("transfer.json", {"versions": VERSIONS, "sizes": [V, W, H, D, C], "rows": ROWS, "labels": LABELS, "cases": cases})


if __name__ == "__main__":
    main()
