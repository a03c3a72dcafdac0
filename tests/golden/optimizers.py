"""Makes tests/golden/optimizers.json and after-stable-adamw.safetensors, after-muon.safetensors: twenty steps by others' optimizers.

    pip install torch transformers safetensors numpy torch-optimi
    python tests/golden/optimizers.py

StableAdamW is optimi's, which ModernBERT was trained with. Muon is PyTorch's, but for the number format of its iteration, which is
written into it: bfloat16 there, float64 here, as everything else. As the rule is for hidden matrices, AdamW moves the others.
"""

import inspect

import numpy as np
import optimi
import torch
import torch.optim._muon as muon
from safetensors.numpy import save_file

from make import HERE, VERSIONS, VOCAB, batch, bert, objective, weights, write_json

SOURCE = inspect.getsource(muon._zeropower_via_newtonschulz)
assert SOURCE.count("torch.bfloat16") == 1
exec(compile(SOURCE.replace("torch.bfloat16", "torch.float64"), muon.__file__, "exec"), muon.__dict__)

STEPS, LR, DECAY, BETAS, EPSILON = 20, 2e-3, 0.1, (0.9, 0.98), 1e-6


def rules(name, student):
    named = list(student.named_parameters())
    vectors = [p for _, p in named if p.dim() < 2]
    tables = [p for n, p in named if p.dim() > 1 and "embeddings" in n]
    matrices = [p for n, p in named if p.dim() > 1 and "embeddings" not in n]
    if name == "stable-adamw":
        groups = [{"params": tables + matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
        return [optimi.StableAdamW(groups, lr=LR, betas=BETAS, eps=EPSILON, foreach=False)]
    beside = [{"params": tables, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return [torch.optim.Muon(matrices, lr=LR, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(beside, lr=LR, betas=BETAS, eps=EPSILON)]


def run(name):
    student = bert(np.random.default_rng(21), VOCAB, 16, 2, 4, 32, 12)
    teacher = bert(np.random.default_rng(22), VOCAB, 16, 1, 2, 24, 12)
    rng = np.random.default_rng(23)
    batches = [batch(rng, 4, 10) for _ in range(3)]
    optimizers, losses, norms = rules(name, student), [], []
    for step in range(STEPS):
        student.zero_grad()
        total, _, _ = objective(student, teacher, batches[step % len(batches)])
        total.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(student.parameters(), float("inf")).item())
        for optimizer in optimizers:
            optimizer.step()
        losses.append(total.item())
    save_file(weights(student), HERE / f"after-{name}.safetensors", {"format": "pt"})
    return {"name": name, "optimizer": name, "weight_decay": DECAY, "lr": str(LR), "clip": 0.0,
            "losses": losses, "norms": norms, "rates": [LR] * STEPS}


if __name__ == "__main__":
    versions = VERSIONS | {"torch-optimi": "0.3.3"}
    write_json("optimizers.json", {"versions": versions, "runs": [run(name) for name in ("stable-adamw", "muon")]})
