"""Makes the golden of what a student may listen to (tests/golden/signals.rs) from PyTorch.

    pip install torch transformers safetensors numpy
    python tests/golden/signals.py

Losses a slot and the gradient of their mean: of a teacher's k likeliest tokens and OTHER, of draws from it, and divergences
other than KL. Inputs are exact in
float32 (shares too), arithmetic is float64.
"""

import numpy as np
import torch
import torch.nn.functional as F

from make import VERSIONS, exact, write_json


def differentiated(student, loss_of):
    """A loss a slot, and the gradient of its mean."""
    logits = student.clone().requires_grad_()
    loss = loss_of(logits)
    (gradient,) = torch.autograd.grad(loss.mean(), logits)
    return {"loss": loss.tolist(), "gradient": gradient.flatten().tolist()}


def top(student, teacher, k, tau):
    """KL divergence over k + 1 outcomes: the dropped tokens are one, on both sides."""
    v = student.shape[1]
    shares, ids = torch.softmax(teacher / tau, 1).topk(k)
    shares = exact(shares.numpy())
    rest = exact((1 - shares.sum(1)).clamp_min(0).numpy()) if k < v else torch.zeros(len(ids), dtype=torch.float64)
    target = torch.cat([shares, rest[:, None]], 1)

    def loss_of(logits):
        log_q = F.log_softmax(logits / tau, 1)
        dropped = torch.ones_like(log_q).scatter(1, ids, 0.0)
        other = torch.logsumexp(log_q.masked_fill(dropped == 0, -1e30), 1, keepdim=True)
        return F.kl_div(torch.cat([log_q.gather(1, ids), other], 1), target, reduction="none").sum(1)

    return {"kind": "top-k", "count": k, "tau": tau, "ids": ids.flatten().tolist(), "shares": shares.flatten().tolist(),
            "rest": rest.tolist(), "constant": torch.special.xlogy(target, target).sum(1).tolist()} | differentiated(student, loss_of)


def drawn(student, teacher, n, tau):
    """Cross-entropy of count / n, less the teacher's own entropy."""
    r = torch.softmax(teacher / tau, 1)
    draws = torch.multinomial(r, n, replacement=True, generator=torch.Generator().manual_seed(n))
    shares = exact((torch.zeros_like(r).scatter_add(1, draws, torch.ones_like(draws, dtype=r.dtype)) / n).numpy())
    ids = torch.arange(r.shape[1]).expand_as(r)
    entropy = exact((-torch.special.xlogy(r, r).sum(1)).numpy())
    loss_of = lambda logits: F.cross_entropy(logits / tau, shares, reduction="none") - entropy
    return {"kind": "draws", "count": n, "tau": tau, "ids": ids.flatten().tolist(), "shares": shares.flatten().tolist(),
            "rest": [0.0] * len(r), "constant": (-entropy).tolist()} | differentiated(student, loss_of)


def reverse(logits, teacher, tau):
    log_q, log_p = F.log_softmax(logits / tau, 1), F.log_softmax(teacher / tau, 1)
    return F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(1)


def jensen_shannon(logits, teacher, tau, beta):
    """As trl's GKDTrainer.generalized_jsd_loss, a slot."""
    log_q, log_p = F.log_softmax(logits / tau, 1), F.log_softmax(teacher / tau, 1)
    mixture = torch.logsumexp(torch.stack([log_q + np.log(1 - beta), log_p + np.log(beta)]), 0)
    of_teacher = F.kl_div(mixture, log_p, reduction="none", log_target=True).sum(1)
    return beta * of_teacher + (1 - beta) * F.kl_div(mixture, log_q, reduction="none", log_target=True).sum(1)


def total_variation(logits, teacher, tau):
    return (torch.softmax(logits / tau, 1) - torch.softmax(teacher / tau, 1)).abs().sum(1) / 2


def divergences(student, teacher):
    out = []
    for tau in (1.0, 2.0):
        of = {("reverse-kl", 0.0): lambda z: reverse(z, teacher, tau), ("total-variation", 0.0): lambda z: total_variation(z, teacher, tau)}
        for beta in (0.1, 0.5, 0.9):
            of["jensen-shannon", beta] = lambda z, beta=beta: jensen_shannon(z, teacher, tau, beta)
        for (kind, beta), loss_of in of.items():
            out.append({"kind": kind, "beta": beta, "tau": tau} | differentiated(student, loss_of))
    return out


def main():
    rng = np.random.default_rng(41)
    n, v = 6, 11
    student, teacher = rng.normal(0, 3, (n, v)), rng.normal(0, 3, (n, v))
    student[1] = 4.0  # all equal
    student[2] += 1000.0  # large, and close to each other
    student[3] = [60, -60] + [0] * (v - 2)  # sure, and wrong
    student[4] = teacher[4]
    student, teacher = exact(student), exact(teacher)
    outcomes = [top(student, teacher, k, tau) for k in (1, 3, 11) for tau in (1.0, 2.0)]
    outcomes += [drawn(student, teacher, draws, tau) for draws in (4, 50) for tau in (1.0, 2.0)]
    write_json("signals.json", {"versions": VERSIONS, "slots": n, "vocab": v, "student": student.flatten().tolist(),
                                "teacher": teacher.flatten().tolist(), "outcomes": outcomes,
                                "divergences": divergences(student, teacher)})


if __name__ == "__main__":
    main()
