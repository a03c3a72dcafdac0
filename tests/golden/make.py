"""Makes the goldens of tests/golden.rs from PyTorch and `transformers`.

    pip install torch transformers safetensors numpy
    python tests/golden/make.py

Every input is exact in float32 and everything is computed from it in float64, so that what a test measures is upstill's own
rounding. Nothing is downloaded: weights are random, from fixed seeds. The same versions give the same files.
"""

import json
import platform
import sys
from pathlib import Path

import numpy as np
import safetensors
import tokenizers
import torch
import torch.nn.functional as F
import transformers
from safetensors.numpy import save_file
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast, get_linear_schedule_with_warmup

from texts import TEXTS, vocabulary

HERE = Path(__file__).parent
VERSIONS = {
    "python": platform.python_version(),
    **{module.__name__: module.__version__ for module in (torch, transformers, tokenizers, safetensors, np)},
}
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


def write_json(name, value):
    """Arrays on one line, objects indented: short, and a change reads well in a diff."""
    rounded = json.loads(json.dumps(value), parse_float=lambda text: float(f"{float(text):.10g}"))
    (HERE / name).write_text(pretty(rounded) + "\n")


def pretty(value, indent=0):
    if isinstance(value, dict) or isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = value.items() if isinstance(value, dict) else [(None, item) for item in value]
        pad = " " * (indent + 1)
        lines = [pad + (f"{json.dumps(key)}: " if key is not None else "") + pretty(item, indent + 1) for key, item in items]
        opening, closing = "{}" if isinstance(value, dict) else "[]"
        return opening + "\n" + ",\n".join(lines) + "\n" + " " * indent + closing
    return json.dumps(value, separators=(",", ":"))


def exact(array):
    """Rounded to float32, kept as float64."""
    return torch.from_numpy(np.asarray(array, dtype=np.float32).astype(np.float64))


# --- losses -------------------------------------------------------------------------------------------------------------


def losses():
    rng = np.random.default_rng(1)
    n, v = 9, 7
    student, teacher = rng.normal(0, 3, (n, v)), rng.normal(0, 3, (n, v))
    student[1] = 4.0  # all equal
    teacher[2] = -2.5
    student[3] += 1000.0  # large, and close to each other
    teacher[3] += 1000.0
    student[4] -= 1000.0
    student[5] = [90, -90, 0, 0, 0, 0, 0]  # sure, and wrong
    teacher[6] = [60, 0, 0, 0, 0, 0, 0]
    teacher[7] = student[7]
    student[8] = [-30, -30.5, -31, -29, -30, -40, -200]
    student, teacher = exact(student), exact(teacher)
    labels = torch.tensor(rng.integers(0, v, n))
    labels[5] = 1

    def differentiated(loss_of):
        """A loss a slot, and the gradient of its mean."""
        logits = student.clone().requires_grad_()
        loss = loss_of(logits)
        (gradient,) = torch.autograd.grad(loss.mean(), logits)
        return {"loss": loss.tolist(), "gradient": gradient.flatten().tolist()}

    def hard(smoothing):
        return lambda logits: F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)

    def soft(tau, squared):
        factor = tau * tau if squared else 1.0
        target = torch.softmax(teacher / tau, 1)
        return lambda logits: F.kl_div(F.log_softmax(logits / tau, 1), target, reduction="none").sum(1) * factor

    cases = []
    for smoothing in (0.0, 0.1, 0.7):
        cases.append({"hard": 1.0, "smoothing": smoothing, "soft": 0.0, "tau": 1.0, "squared": False} | differentiated(hard(smoothing)))
    for tau in (0.5, 1.0, 2.0, 4.0, 20.0):
        for squared in (False, True):
            of_soft, case = soft(tau, squared), {"smoothing": 0.0, "tau": tau, "squared": squared}
            cases.append({"hard": 0.0, "soft": 1.0} | case | differentiated(of_soft))
            both = lambda logits: 0.75 * hard(0.0)(logits) + 4.0 * of_soft(logits)
            cases.append({"hard": 0.75, "soft": 4.0} | case | differentiated(both))
    write_json(
        "losses.json",
        {"versions": VERSIONS, "slots": n, "vocab": v, "student": student.flatten().tolist(),
         "teacher": teacher.flatten().tolist(), "labels": labels.tolist(), "cases": cases},
    )


# --- models -------------------------------------------------------------------------------------------------------------


def drawn(model, rng):
    """Every parameter is random and matters: sharp attention, norms and biases that aren't 1 and 0."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            draw = rng.normal(0, 1, tuple(parameter.shape))
            if name.lower().endswith("norm.weight"):
                draw = 1 + 0.2 * draw
            elif name.endswith("bias"):
                draw = 0.2 * draw
            elif "embed" not in name:
                draw = 1.5 * draw / np.sqrt(parameter.shape[1])
            parameter.copy_(exact(draw))
    return model


def bert(rng, vocab, hidden, layers, heads, intermediate, positions):
    config = BertConfig(
        vocab_size=vocab, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=intermediate,
        max_position_embeddings=positions, type_vocab_size=2, attn_implementation="eager",
    )
    return drawn(BertForMaskedLM(config).double().eval(), rng)


def weights(model):
    """By name, without the second names of tied parameters."""
    return {name: p.detach().numpy().astype(np.float32).copy() for name, p in model.named_parameters()}


def gradients(model):
    return {name: p.grad.numpy().astype(np.float32).copy() for name, p in model.named_parameters()}


def logits_of(model, ids, real):
    """Of rows of so many real tokens and padding, at some real positions."""
    rows, length = ids.shape
    mask = np.array([[int(i < count) for i in range(length)] for count in real])
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask)).logits.reshape(rows * length, -1)
    at = [row * length + i for row, count in enumerate(real) for i in sorted({0, 1 % count, count // 2, count - 1})]
    return {"rows": rows, "ids": ids.flatten().tolist(), "mask": mask.flatten().tolist(), "at": at, "logits": logits[at].flatten().tolist()}


def written(model):
    """The model's config.json, without what says how it was run."""
    full = model.config.to_dict()
    full["architectures"], full["model_type"] = [type(model).__name__], model.config.model_type
    for key in ("_attn_implementation", "dtype", "torch_dtype", "transformers_version"):
        full.pop(key, None)
    return full


def shape(model):
    c = model.config
    return {
        "vocab_size": c.vocab_size, "hidden": c.hidden_size, "layers": c.num_hidden_layers, "heads": c.num_attention_heads,
        "intermediate": c.intermediate_size, "max_positions": c.max_position_embeddings, "token_types": c.type_vocab_size,
        "norm_epsilon": c.layer_norm_eps,
    }


def models():
    cases = []
    for name, seed, dims, rows, length, real, typed in [
        # name, seed, (vocab, hidden, layers, heads, intermediate, positions), rows, length, real tokens a row, token types
        ("one-layer", 11, (31, 12, 1, 3, 20, 16), 3, 9, [9, 4, 1], False),
        ("two-layers", 12, (40, 16, 2, 4, 64, 24), 4, 12, [12, 12, 7, 2], False),
        ("one-head", 13, (23, 8, 3, 1, 32, 10), 2, 10, [10, 6], False),
        ("token-types", 14, (29, 8, 1, 2, 16, 12), 2, 11, [11, 8], True),
        ("long", 15, (20, 8, 1, 2, 16, 512), 2, 512, [512, 300], False),
        ("wide", 16, (37, 32, 1, 2, 48, 8), 2, 6, [6, 3], False),
    ]:
        rng = np.random.default_rng(seed)
        model = bert(rng, *dims)
        ids = rng.integers(0, dims[0], (rows, length))
        ids[-1] = ids[-1, 0]  # a row of one token all along
        mask = np.array([[int(i < count) for i in range(length)] for count in real])
        types = rng.integers(0, 2, (rows, length)) if typed else np.zeros((rows, length), dtype=int)
        with torch.no_grad():
            logits = model(*(torch.tensor(x) for x in (ids, mask, types))).logits.reshape(rows * length, -1)
        at = [row * length + i for row, count in enumerate(real) for i in sorted({0, 1 % count, count // 2, count - 1})]
        save_file(weights(model), HERE / f"model-{name}.safetensors", {"format": "pt"})
        cases.append({
            "name": name, "shape": shape(model), "rows": rows, "ids": ids.flatten().tolist(), "mask": mask.flatten().tolist(),
            "types": types.flatten().tolist() if typed else None, "at": at, "logits": logits[at].flatten().tolist(),
        })
    write_json("models.json", {"versions": VERSIONS, "cases": cases})


# --- distillation: gradients and optimizers -----------------------------------------------------------------------------

VOCAB, SLOTS = 40, 3


def batch(rng, rows, length):
    """A masked batch, fields as in upstill's; unused slots are 0 with weight 0, padding is token 0 in segment 0."""
    real = rng.integers(4, length + 1, rows)
    real[0] = length
    ids, segments, positions = (np.zeros((rows, length), dtype=int) for _ in range(3))
    masked, labels, used = (np.zeros((rows, SLOTS), dtype=int) for _ in range(3))
    for row, count in enumerate(real):
        ids[row, :count] = rng.integers(5, VOCAB, count)
        segments[row, :count], positions[row, :count] = 1, np.arange(count)
        slots = int(rng.integers(1, SLOTS + 1))
        places = np.sort(rng.choice(np.arange(1, count), slots, replace=False))
        masked[row, :slots], used[row, :slots] = places, 1
        labels[row, :slots] = ids[row, places]
        ids[row, places] = 4
    flat = {"input_ids": ids, "segments": segments, "positions": positions, "masked": masked, "labels": labels, "weights": used}
    return {"rows": rows, "length": length, "slots": SLOTS} | {key: value.flatten().tolist() for key, value in flat.items()}


def objective(student, teacher, batch, positions="masked", smoothing=0.0, tau=2.0, squared=False, alpha_soft=2.0):
    """Equation 3 with alpha_h = 1: total, hard and soft loss, in nats a masked (or real) token."""
    rows, length = batch["rows"], batch["length"]
    grid = lambda key, width: torch.tensor(batch[key]).reshape(rows, width)
    inputs = {"input_ids": grid("input_ids", length), "attention_mask": (grid("segments", length) > 0).long(),
              "position_ids": grid("positions", length)}
    logits = student(**inputs).logits.flatten(0, 1)
    with torch.no_grad():
        target = torch.softmax(teacher(**inputs).logits.flatten(0, 1) / tau, 1)
    used = torch.tensor(batch["weights"]) > 0
    slots = (grid("masked", SLOTS) + length * torch.arange(rows)[:, None]).flatten()[used]
    hard = F.cross_entropy(logits[slots], torch.tensor(batch["labels"])[used], label_smoothing=smoothing)
    where = slots if positions == "masked" else torch.nonzero(torch.tensor(batch["segments"]) > 0).flatten()
    soft = F.kl_div(F.log_softmax(logits[where] / tau, 1), target[where], reduction="batchmean")
    return hard + alpha_soft * (tau * tau if squared else 1.0) * soft, hard, soft


def train(make_student, teacher, batches, optimizer, weight_decay, lr, schedule, clip, steps=20, objective=objective):
    """`lr` with a linear warm-up and decay over (warm-up, total) `schedule` steps, or constant."""
    student = make_student()
    parameters = list(student.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    rule = {
        "adam": lambda: torch.optim.Adam(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6),
        "adamw": lambda: torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6),
        # Keras's rule is PyTorch's with other defaults.
        "adadelta-keras": lambda: torch.optim.Adadelta(groups, lr=lr, rho=0.95, eps=1e-7),
        "adadelta-pytorch": lambda: torch.optim.Adadelta(groups, lr=lr, rho=0.9, eps=1e-6),
    }[optimizer]()
    scheduler = get_linear_schedule_with_warmup(rule, *schedule) if schedule else None
    losses, norms, rates = [], [], []
    for step in range(steps):
        rule.zero_grad()
        total, _, _ = objective(student, teacher, batches[step % len(batches)])
        total.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(student.parameters(), clip if clip > 0 else float("inf")).item())
        rates.append(rule.param_groups[0]["lr"])
        rule.step()
        if scheduler:
            scheduler.step()
        losses.append(total.item())
    return student, {"losses": losses, "norms": norms, "rates": rates}


def distillation():
    make_student = lambda: bert(np.random.default_rng(21), VOCAB, 16, 2, 4, 32, 12)
    teacher = bert(np.random.default_rng(22), VOCAB, 16, 1, 2, 24, 12)
    rng = np.random.default_rng(23)
    batches = [batch(rng, 4, 10) for _ in range(3)]
    student = make_student()
    save_file(weights(student), HERE / "student.safetensors", {"format": "pt"})
    save_file(weights(teacher), HERE / "teacher.safetensors", {"format": "pt"})

    cases = []
    for name, settings in {
        "masked": {"positions": "masked", "smoothing": 0.0, "tau": 2.0, "squared": False, "alpha_soft": 2.0},
        "all": {"positions": "all", "smoothing": 0.1, "tau": 4.0, "squared": True, "alpha_soft": 0.5},
    }.items():
        student.zero_grad()
        total, hard, soft = objective(student, teacher, batches[0], **settings)
        total.backward()
        save_file(gradients(student), HERE / f"gradients-{name}.safetensors", {"format": "pt"})
        cases.append({"name": name, "total": total.item(), "hard": hard.item(), "soft": soft.item()} | settings)

    runs = []
    for name, optimizer, weight_decay, lr, schedule, clip, written in [
        ("adam", "adam", 0.0, 1e-3, None, 0.0, "1e-3"),
        ("adam-l2", "adam", 0.01, 1e-3, None, 0.0, "1e-3"),
        ("adamw", "adamw", 0.1, 2e-3, None, 0.0, "2e-3"),
        ("adadelta-keras", "adadelta-keras", 0.0, 1.0, None, 0.0, "1.0"),
        ("adadelta-pytorch", "adadelta-pytorch", 0.01, 1.0, None, 0.0, "1.0"),
        ("clipped", "adam", 0.0, 1e-3, None, 0.01, "1e-3"),
        ("warmed-up", "adamw", 0.1, 2e-3, (5, 20), 2.0, "0 -> 2e-3 over 5 steps, then -> 0 linear"),
    ]:
        trained, record = train(make_student, teacher, batches, optimizer, weight_decay, lr, schedule, clip)
        save_file(weights(trained), HERE / f"after-{name}.safetensors", {"format": "pt"})
        runs.append({"name": name, "optimizer": optimizer, "weight_decay": weight_decay, "lr": written, "clip": clip} | record)
    write_json(
        "distillation.json",
        {"versions": VERSIONS, "student": shape(student), "teacher": shape(teacher), "batches": batches,
         "gradients": cases, "runs": runs},
    )


# --- schedules ----------------------------------------------------------------------------------------------------------


def schedules():
    cases = []
    for peak, warmup, total in [(5e-4, 5, 100), (1e-3, 0, 10), (2e-5, 10, 10), (1.0, 1, 7), (3e-4, 3, 4), (6e-4, 0, 1)]:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=peak)
        scheduler = get_linear_schedule_with_warmup(optimizer, warmup, total)
        values = []
        for _ in range(total):
            values.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        cases.append({"peak": peak, "warmup": warmup, "total": total, "values": values})
    write_json("schedules.json", {"versions": VERSIONS, "cases": cases})


# --- tokens -------------------------------------------------------------------------------------------------------------


def tokens():
    ids = {}
    for name, cased, settings in (
        ("uncased", False, {"do_lower_case": True}),
        ("cased", True, {"do_lower_case": False}),
        # Over the cased vocabulary: lower case that keeps accents, and CJK letters that stay together.
        ("accented", True, {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False}),
    ):
        tokens = vocabulary(cased)
        if name != "accented":
            (HERE / name).mkdir(exist_ok=True)
            (HERE / name / "vocab.txt").write_text("\n".join(tokens) + "\n")
        tokenizer = BertTokenizerFast(vocab={token: i for i, token in enumerate(tokens)}, **settings)
        ids[name] = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    write_json("tokens.json", {"versions": VERSIONS, "texts": TEXTS} | ids)


if __name__ == "__main__":
    for make in (losses, models, distillation, schedules, tokens):
        make()
    files = [path for path in sorted(HERE.rglob("*")) if path.suffix in (".json", ".safetensors", ".txt")]
    for path in files:
        print(f"{path.stat().st_size:8} {path.relative_to(HERE)}")
    print(f"{sum(path.stat().st_size for path in files):8} bytes in all; " + " ".join(f"{k} {v}" for k, v in VERSIONS.items()), file=sys.stdout)
