"""Makes the golden of how a student listens to a teacher in memory (tests/golden/listening.rs) from PyTorch.

    pip install torch transformers safetensors numpy
    python tests/golden/listening.py

The models are those of tests/golden/make.py; losses and gradients by some parameters are worked out in float64.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from make import HERE, SLOTS, VERSIONS, VOCAB, batch, bert, exact, save_file, shape, weights, write_json

PARAMETERS = ("cls.predictions.bias", "bert.encoder.layer.0.attention.self.query.weight")


def asked(batch):
    """The inputs, the used slots among all positions, and their labels."""
    rows, length = batch["rows"], batch["length"]
    grid = lambda key, width: torch.tensor(batch[key]).reshape(rows, width)
    inputs = {"input_ids": grid("input_ids", length), "attention_mask": (grid("segments", length) > 0).long(),
              "position_ids": grid("positions", length)}
    used = torch.tensor(batch["weights"]) > 0
    slots = (grid("masked", SLOTS) + length * torch.arange(rows)[:, None]).flatten()[used]
    return inputs, slots, torch.tensor(batch["labels"])[used]


def gate(kind, share, student, teacher, labels, tau):
    """Where the soft loss is taken."""
    if kind == "lowest-entropy":
        entropy = torch.distributions.Categorical(logits=teacher / tau).entropy()
        lowest = entropy.topk(math.ceil(share * len(entropy)), largest=False).indices
        return torch.zeros(len(entropy), dtype=bool).index_fill(0, lowest, True)
    if kind == "teacher-right":
        return teacher.argmax(1) == labels
    return F.cross_entropy(teacher, labels, reduction="none") < F.cross_entropy(student, labels, reduction="none")


def gated(student, teacher, batch, case):
    inputs, slots, labels = asked(batch)
    tau = case["tau"]
    logits = student(**inputs).logits.flatten(0, 1)[slots]
    with torch.no_grad():
        said = teacher(**inputs).logits.flatten(0, 1)[slots]
    is_open = gate(case["gate"], case["share"], logits.detach(), said, labels, tau)
    assert 0 < is_open.sum() < len(slots), "a gate that is partly open"
    log_q, log_p = F.log_softmax(logits / tau, 1), F.log_softmax(said / tau, 1)
    near, far = (log_p, log_q) if case["divergence"] == "reverse-kl" else (log_q, log_p)
    soft = F.kl_div(near, far, reduction="none", log_target=True).sum(1)
    hard = F.cross_entropy(logits, labels, reduction="none")
    n = len(slots)
    soft, hard = soft[is_open].sum() / n, hard[~is_open].sum() / n if case["switch"] else hard.mean()
    total = case["hard"] * hard + case["soft"] * (tau * tau if case["squared"] else 1.0) * soft
    return total, hard, soft, is_open


def switch_distillation(student, teacher, batch, q, tau):
    """He et al. 2026: cross-entropy where the gate is closed, tau^2 times the reverse KL where it is open, each with its own mean."""
    inputs, slots, labels = asked(batch)
    logits = student(**inputs).logits.flatten(0, 1)[slots]
    said = teacher(**inputs).logits.flatten(0, 1)[slots]
    is_open = gate("lowest-entropy", q, None, said, labels, tau)
    log_q, log_p = F.log_softmax(logits / tau, 1), F.log_softmax(said / tau, 1)
    reverse = (log_q.exp() * (log_q - log_p)).sum(1)
    return F.cross_entropy(logits[~is_open], labels[~is_open]) + tau * tau * reverse[is_open].mean()


def gates(student, teacher, batch):
    base = {"share": 0.0, "switch": False, "divergence": "kl", "hard": 1.0, "soft": 2.0, "tau": 2.0, "squared": False}
    cases = []
    for settings in [
        {"gate": "lowest-entropy", "share": 0.3, "squared": True},
        {"gate": "lowest-entropy", "share": 0.5, "switch": True, "divergence": "reverse-kl", "hard": 2.0, "squared": True},
        {"gate": "teacher-right", "tau": 1.0},
        {"gate": "teacher-right", "switch": True},
        {"gate": "teacher-better", "soft": 0.5},
        {"gate": "teacher-better", "switch": True, "divergence": "reverse-kl"},
    ]:
        case = base | settings
        student.zero_grad()
        total, hard, soft, is_open = gated(student, teacher, batch, case)
        if case["divergence"] == "reverse-kl" and case["share"] == 0.5:
            theirs = switch_distillation(student, teacher, batch, 0.5, case["tau"])
            assert abs(total - theirs) < 1e-9, "weights of 1 / (1 - q) and 1 / q are their own means"
        total.backward()
        gradients = {name: p.grad.flatten().tolist() for name, p in student.named_parameters() if name in PARAMETERS}
        cases.append(case | {"open": int(is_open.sum()), "total": total.item(), "hard_loss": hard.item(), "soft_loss": soft.item(),
                             "gradients": gradients})
    return cases


def distilbert(student, teacher, batch, case):
    """Sanh et al. 2019: their Distiller's loss, with CosineEmbeddingLoss over the tokens."""
    inputs, slots, labels = asked(batch)
    tau = case["tau"]
    where = slots if case["positions"] == "masked" else torch.nonzero(torch.tensor(batch["segments"]) > 0).flatten()
    hidden = student.bert(**inputs).last_hidden_state.flatten(0, 1)[where]
    with torch.no_grad():
        theirs = teacher.bert(**inputs).last_hidden_state.flatten(0, 1)[where]
        said = teacher(**inputs).logits.flatten(0, 1)[where]
    logits = student(**inputs).logits.flatten(0, 1)
    loss_mlm = F.cross_entropy(logits[slots], labels)
    loss_ce = F.kl_div(F.log_softmax(logits[where] / tau, 1), F.softmax(said / tau, 1), reduction="batchmean")
    loss_cos = torch.nn.CosineEmbeddingLoss()(hidden, theirs, hidden.new_ones(len(hidden)))
    total = case["hard"] * loss_mlm + case["soft"] * tau * tau * loss_ce + case["cosine"] * loss_cos
    return total, loss_mlm, loss_ce, loss_cos


def cosines(student, teacher, batch):
    cases = []
    for settings in [
        {"positions": "all", "hard": 2.0, "soft": 5.0, "cosine": 1.0},
        {"positions": "masked", "hard": 2.0, "soft": 5.0, "cosine": 1.0},
        {"positions": "all", "hard": 1.0, "soft": 0.0, "cosine": 3.0},
        {"positions": "masked", "hard": 1.0, "soft": 0.0, "cosine": 3.0},
    ]:
        case = {"tau": 2.0} | settings
        student.zero_grad()
        total, hard, soft, cosine = distilbert(student, teacher, batch, case)
        total.backward()
        gradients = {name: p.grad.flatten().tolist() for name, p in student.named_parameters() if name in PARAMETERS}
        cases.append(case | {"total": total.item(), "hard_loss": hard.item(), "soft_loss": soft.item(), "cosine_loss": cosine.item(),
                             "gradients": gradients})
    return cases


def ensembles(student, teachers, batch):
    """Timiryasov and Tastet 2023: their DistillationTrainer.compute_loss, over masked tokens; means of logits by weight."""
    inputs, slots, labels = asked(batch)
    tau, alpha, cases = 2.0, 0.5, []
    for shares in [(1.0, 1.0), (1.0, 3.0)]:
        student.zero_grad()
        with torch.no_grad():
            said = torch.stack([teacher(**inputs).logits.flatten(0, 1)[slots] for teacher in teachers])
        weights = torch.tensor(shares, dtype=said.dtype)
        mean = (said * weights[:, None, None]).sum(0) / weights.sum()
        if shares[0] == shares[1]:
            assert torch.allclose(mean, said.mean(dim=0), atol=1e-12)
        logits = student(**inputs).logits.flatten(0, 1)[slots]
        hard = F.cross_entropy(logits, labels)
        soft = F.kl_div(F.log_softmax(logits / tau, dim=-1), F.softmax(mean / tau, dim=-1), reduction="batchmean")
        total = alpha * hard + (1 - alpha) * soft * tau**2
        total.backward()
        gradients = {name: p.grad.flatten().tolist() for name, p in student.named_parameters() if name in PARAMETERS}
        cases.append({"weights": shares, "tau": tau, "alpha": alpha, "total": total.item(), "hard_loss": hard.item(),
                      "soft_loss": soft.item(), "gradients": gradients})
    return cases


def inside(model, inputs):
    """Hidden states as transformers numbers them, and each layer's queries, keys and values: [b * s, d] each."""
    attended, hooks = [], []
    for layer in model.bert.encoder.layer:
        own = layer.attention.self
        attended.append([])
        for linear in (own.query, own.key, own.value):
            hooks.append(linear.register_forward_hook(lambda _module, _in, out, kept=attended[-1]: kept.append(out)))
    states = model.bert(**inputs, output_hidden_states=True).hidden_states
    for hook in hooks:
        hook.remove()
    return states, attended


def relations(student, teacher, heads, segments):
    """Wang et al. 2021, equations 3 to 5, over the real tokens, each of which sees its own segment."""
    same = (segments[:, :, None] == segments[:, None, :])[:, None]
    total = 0.0
    for own, theirs in zip(student, teacher):
        log_p = []
        for x in (own, theirs):
            b, s, d = x.shape
            x = x.reshape(b, s, heads, d // heads).transpose(1, 2)
            scores = x @ x.transpose(2, 3) / math.sqrt(d // heads)
            log_p.append(F.log_softmax(scores.masked_fill(~same, float("-inf")), -1).masked_fill(~same, 0.0))
        terms = torch.where(same, log_p[1].exp() * (log_p[1] - log_p[0]), 0.0)
        total = total + terms.sum(3).mean(1)[segments > 0].mean()
    return total


def between(student, teacher, batch, case, projections):
    inputs, slots, labels = asked(batch)
    segments = torch.tensor(batch["segments"]).reshape(batch["rows"], batch["length"])
    real = segments > 0
    own_states, own_attended = inside(student, inputs)
    with torch.no_grad():
        states, attended = inside(teacher, inputs)
    loss = 0.0
    for own, theirs in case["layers"]:
        if case["kind"] == "relations":
            loss = loss + relations(own_attended[own - 1], attended[theirs - 1], case["heads"], segments)
            continue
        matrix = projections["early" if case["kind"] == "early" else "embedded" if own == 0 else "hidden"]
        x, y = (own_states[own] @ matrix)[real], states[theirs][real]
        if case["kind"] == "early":
            loss = loss + torch.nn.CosineEmbeddingLoss()(x, y, x.new_ones(len(x)))
        else:
            loss = loss + F.mse_loss(x, y)
    hard = F.cross_entropy(student(**inputs).logits.flatten(0, 1)[slots], labels)
    return case["hard"] * hard + case["weight"] * loss, hard, loss


def layers(student, teacher, batch, rng):
    """Losses between layers of models of two widths (Jiao et al. 2020, Wang et al. 2021, Zhao et al. 2026)."""
    widths = (student.config.hidden_size, teacher.config.hidden_size)
    given = {name: rng.normal(0.0, 0.3, widths).astype(np.float32) for name in ("hidden", "embedded", "early")}
    cases = []
    for settings in [
        {"kind": "hidden", "layers": [[0, 0], [2, 1]], "weight": 2.0},
        {"kind": "hidden", "layers": [[1, 1], [2, 1]], "weight": 0.5},
        {"kind": "relations", "layers": [[2, 1]], "heads": 4, "weight": 3.0},
        {"kind": "relations", "layers": [[1, 1]], "heads": 2, "weight": 1.0, "hard": 0.5},
        {"kind": "early", "layers": [[1, 1]], "weight": 0.1},
    ]:
        case = {"heads": 0, "hard": 1.0} | settings
        projections = {name: torch.tensor(matrix, dtype=torch.float64, requires_grad=True) for name, matrix in given.items()}
        student.zero_grad()
        total, hard, loss = between(student, teacher, batch, case, projections)
        total.backward()
        gradients = {name: p.grad.flatten().tolist() for name, p in student.named_parameters() if name in PARAMETERS}
        gradients |= {f"projections.{name}": p.grad.flatten().tolist() for name, p in projections.items() if p.grad is not None}
        case["layers"] = ", ".join(f"{own}:{theirs}" for own, theirs in case["layers"])
        cases.append(case | {"total": total.item(), "hard_loss": hard.item(), "loss": loss.item(), "gradients": gradients})
    return {"projections": {name: exact(matrix).flatten().tolist() for name, matrix in given.items()}, "cases": cases}


def main():
    student = bert(np.random.default_rng(21), VOCAB, 16, 2, 4, 32, 12)
    teacher = bert(np.random.default_rng(22), VOCAB, 16, 1, 2, 24, 12)
    second = bert(np.random.default_rng(12), 40, 16, 2, 4, 64, 24)  # model-two-layers.safetensors, by make.py
    narrow = bert(np.random.default_rng(24), VOCAB, 12, 1, 2, 24, 12)
    save_file(weights(narrow), HERE / "teacher-narrow.safetensors", {"format": "pt"})
    rng = np.random.default_rng(52)
    rows = batch(rng, 9, 10)
    # A word that the teacher finds likeliest, here and there: it is right there.
    inputs, slots, _ = asked(rows)
    with torch.no_grad():
        first = teacher(**inputs).logits.flatten(0, 1)[slots].argmax(1).tolist()
    used = [slot for slot, weight in enumerate(rows["weights"]) if weight]
    for slot, token in list(zip(used, first))[::3]:
        rows["labels"][slot] = token
    print(len(used), "slots")
    assert len(used) % 2 == 0, "half of the slots are whole slots"
    write_json("listening.json", {"versions": VERSIONS, "student": shape(student), "teacher": shape(teacher), "batch": rows,
                                  "gates": gates(student, teacher, rows), "cosines": cosines(student, teacher, rows),
                                  "second_teacher": shape(second), "ensembles": ensembles(student, [teacher, second], rows),
                                  "narrow_teacher": shape(narrow), "layers": layers(student, narrow, rows, rng)})


if __name__ == "__main__":
    main()
