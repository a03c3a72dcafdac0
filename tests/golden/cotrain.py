"""Makes the goldens of co-training (tests/golden/together.rs) from PyTorch and `transformers`.

    pip install torch transformers safetensors numpy
    python tests/golden/cotrain.py

Two or three BERTs of different depth, width and heads see the same masked batch; each has its hard loss and a soft loss from
each other one, whose logits are detached; each has an optimizer of its own. Inputs are exact in float32, arithmetic is float64.
"""

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

from make import HERE, SLOTS, VERSIONS, VOCAB, batch, bert, gradients, shape, weights, write_json

SIZES = {"large": (31, (VOCAB, 16, 2, 4, 32, 12)), "small": (32, (VOCAB, 12, 1, 3, 20, 12)), "tiny": (33, (VOCAB, 8, 1, 1, 16, 12))}


def models(names):
    return {name: bert(np.random.default_rng(SIZES[name][0]), *SIZES[name][1]) for name in names}


def objectives(models, teacher, batch, case):
    """Each model's total, hard loss and soft losses by source, in nats a masked (or real) token."""
    rows, length, tau = batch["rows"], batch["length"], case["tau"]
    grid = lambda key, width: torch.tensor(batch[key]).reshape(rows, width)
    inputs = {"input_ids": grid("input_ids", length), "attention_mask": (grid("segments", length) > 0).long(),
              "position_ids": grid("positions", length)}
    logits = {name: model(**inputs).logits.flatten(0, 1) for name, model in models.items()}
    if teacher is not None:
        logits["teacher"] = teacher(**inputs).logits.flatten(0, 1)
    used = torch.tensor(batch["weights"]) > 0
    slots = (grid("masked", SLOTS) + length * torch.arange(rows)[:, None]).flatten()[used]
    where = slots if case["positions"] == "masked" else torch.nonzero(torch.tensor(batch["segments"]) > 0).flatten()
    out = {}
    for name in models:
        hard = F.cross_entropy(logits[name][slots], torch.tensor(batch["labels"])[used])
        total, softs = case["hard"] * hard, {}
        for source, alpha in case["from"][name].items():
            target = torch.softmax(logits[source][where].detach() / tau, 1)
            softs[source] = F.kl_div(F.log_softmax(logits[name][where] / tau, 1), target, reduction="batchmean")
            total = total + alpha * (tau * tau if case["squared"] else 1.0) * softs[source]
        out[name] = (total, hard, softs)
    return out


def main():
    teacher = bert(np.random.default_rng(22), VOCAB, 16, 1, 2, 24, 12)  # teacher.safetensors, by make.py
    rng = np.random.default_rng(34)
    batches = [batch(rng, 4, 10) for _ in range(3)]
    for name, model in models(SIZES).items():
        save_file(weights(model), HERE / f"together-{name}.safetensors", {"format": "pt"})

    both = {"large": {"small": 1.0}, "small": {"large": 1.0}}
    plain = {"positions": "masked", "hard": 1.0, "tau": 2.0, "squared": False, "teacher": False}
    cases = []
    for name, settings in {
        "mutual": {"from": both},
        "one-way": {"from": {"large": {"small": 2.0}, "small": {}}},
        "all": {"from": {"large": {"small": 0.5}, "small": {"large": 3.0}}, "positions": "all", "tau": 4.0, "squared": True},
        "three": {"from": {"large": {"small": 1.0, "tiny": 0.25, "teacher": 2.0}, "small": {"large": 1.0, "teacher": 0.5},
                           "tiny": {"large": 1.0, "small": 0.5}}, "hard": 0.75, "teacher": True},
    }.items():
        case = plain | settings
        learning = models(case["from"])
        found = objectives(learning, teacher if case["teacher"] else None, batches[0], case)
        sum(total for total, _, _ in found.values()).backward()
        for model, (total, hard, softs) in found.items():
            save_file(gradients(learning[model]), HERE / f"together-{name}-{model}.safetensors", {"format": "pt"})
        losses = {model: {"total": total.item(), "hard": hard.item(), "soft": {k: v.item() for k, v in softs.items()}}
                  for model, (total, hard, softs) in found.items()}
        cases.append({"name": name, "losses": losses} | case)

    learning = models(both)
    rules = {
        "large": (torch.optim.Adam(learning["large"].parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-6), 0.5),
        "small": (torch.optim.AdamW(
            [{"params": [p for n, p in learning["small"].named_parameters() if not n.endswith("bias") and "LayerNorm" not in n], "weight_decay": 0.1},
             {"params": [p for n, p in learning["small"].named_parameters() if n.endswith("bias") or "LayerNorm" in n], "weight_decay": 0.0}],
            lr=2e-3, betas=(0.9, 0.98), eps=1e-6), 0.0),
    }
    losses, norms = {"large": [], "small": []}, {"large": [], "small": []}
    for step in range(20):
        found = objectives(learning, None, batches[step % len(batches)], plain | {"from": both})
        for model, (rule, clip) in rules.items():
            rule.zero_grad()
        for model, (rule, clip) in rules.items():
            found[model][0].backward()
            norms[model].append(torch.nn.utils.clip_grad_norm_(learning[model].parameters(), clip or float("inf")).item())
            losses[model].append(found[model][0].item())
        for rule, _ in rules.values():
            rule.step()
    for name, model in learning.items():
        save_file(weights(model), HERE / f"together-after-{name}.safetensors", {"format": "pt"})
    shapes = {name: shape(model) for name, model in models(SIZES).items()}
    write_json("cotrain.json", {"versions": VERSIONS, "shapes": shapes, "teacher": shape(teacher), "batches": batches, "cases": cases,
                                "losses": losses, "norms": norms})


if __name__ == "__main__":
    main()
