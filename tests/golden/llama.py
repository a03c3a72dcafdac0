"""Makes the goldens of tests/golden/causal.rs: Llama, Qwen3 and SmolLM3 as `transformers` has them.

    pip install torch transformers safetensors numpy
    python tests/golden/llama.py

As in make.py: inputs are exact in float32, everything is computed from them in float64 (but for rotary angles and what norms divide by,
which `transformers` takes in float32 whatever the model is), nothing is downloaded. Attention is PyTorch's own (sdpa), as eager softmax
is float32.
"""

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from transformers import (
    LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM, SmolLM3Config, SmolLM3ForCausalLM,
)

from make import HERE, VERSIONS, drawn, gradients, logits_of, train, weights, write_json, written

CLASSES = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen3": (Qwen3Config, Qwen3ForCausalLM), "smollm3": (SmolLM3Config, SmolLM3ForCausalLM)}
SCALING = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
WRITTEN = 12  # tokens that a model goes on with


def config(kind, vocab, hidden, layers, heads, kv_heads, intermediate, positions, theta=10000.0, scaling=None, **more):
    return CLASSES[kind][0](
        vocab_size=vocab, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
        intermediate_size=intermediate, max_position_embeddings=positions, pad_token_id=0, bos_token_id=2, eos_token_id=3,
        rope_parameters={"rope_theta": theta, **(scaling or {"rope_type": "default"})}, attn_implementation="sdpa", **more,
    )


def causal(rng, kind, *sizes, **more):
    made = config(kind, *sizes, **more)
    return drawn(CLASSES[kind][1](made).double().eval(), rng)


def dialect_of(model, dialect):
    """The model's config.json: as published ("old"), as `transformers` 5 writes it ("new"), or with both."""
    full = written(model)
    new = full.pop("rope_parameters")
    scaling = {key: value for key, value in new.items() if key != "rope_theta"}
    old = {"rope_theta": new["rope_theta"], "rope_scaling": scaling if scaling["rope_type"] != "default" else None}
    return full | (old if dialect != "new" else {}) | ({"rope_parameters": new} if dialect != "old" else {})


def greedy(model, prompt):
    model.generation_config.eos_token_id = None
    ids = torch.tensor([prompt])
    # Else a token that fills rows elsewhere would be taken for a filling.
    mask = torch.ones_like(ids)
    found = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=WRITTEN, pad_token_id=0, use_cache=True)
    return found[0, len(prompt):].tolist()


def models():
    cases = []
    for name, kind, seed, sizes, more, rows, length, real, dialect in [
        # name, kind, seed, (vocab, hidden, layers, heads, kv heads, intermediate, positions), settings, rows, length, real tokens a row, dialect
        ("one-layer", "llama", 71, (31, 12, 1, 3, 3, 20, 20), {"tie_word_embeddings": True}, 3, 9, [9, 4, 1], "old"),
        ("grouped", "llama", 72, (40, 16, 3, 4, 2, 24, 24), {"tie_word_embeddings": False}, 4, 12, [12, 12, 7, 2], "new"),
        ("one-key-head", "llama", 73, (29, 12, 2, 3, 1, 16, 40), {"head_dim": 6, "tie_word_embeddings": True}, 2, 30, [30, 16], "old"),
        ("scaled", "llama", 74, (20, 16, 2, 2, 1, 12, 512), {"head_dim": 16, "theta": 500000.0, "scaling": SCALING, "tie_word_embeddings": True}, 2, 200, [200, 70], "both"),
        ("biases", "llama", 75, (23, 8, 3, 2, 2, 12, 32), {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False}, 2, 12, [12, 5], "both"),
        ("qwen", "qwen3", 76, (37, 12, 2, 4, 2, 16, 32), {"head_dim": 8, "tie_word_embeddings": True}, 3, 14, [14, 9, 3], "new"),
        ("qwen-biases", "qwen3", 77, (25, 16, 3, 2, 1, 20, 32), {"head_dim": 4, "attention_bias": True, "tie_word_embeddings": False, "rms_norm_eps": 1e-3}, 2, 17, [17, 8], "old"),
        ("smol", "smollm3", 78, (27, 16, 5, 4, 2, 20, 40), {"theta": 2000000.0, "tie_word_embeddings": True}, 2, 20, [20, 13], "both"),
        ("smol-odd", "smollm3", 79, (21, 12, 3, 2, 2, 12, 40), {"no_rope_layer_interval": 2, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False}, 2, 11, [11, 6], "new"),
        ("long", "llama", 80, (23, 8, 7, 2, 1, 12, 256), {"tie_word_embeddings": True, "rms_norm_eps": 1e-5}, 2, 150, [150, 90], "old"),
    ]:
        rng = np.random.default_rng(seed)
        model = causal(rng, kind, *sizes, **more)
        ids = rng.integers(0, sizes[0], (rows, length))
        save_file(weights(model), HERE / f"llama-{name}.safetensors", {"format": "pt"})
        prompt = ids[0, :5].tolist()
        cases.append({"name": name, "config": dialect_of(model, dialect)} | logits_of(model, ids, real) | {
            "prompt": prompt, "greedy": greedy(model, prompt),
        })
    return cases


VOCAB = 19


def batch(rng, rows, length):
    """A causal batch, fields as in upstill's: every real token but a row's last is asked for the next one."""
    real = rng.integers(4, length + 1, rows)
    real[0] = length
    ids, segments, positions = (np.zeros((rows, length), dtype=int) for _ in range(3))
    places, labels, used = (np.zeros((rows, length - 1), dtype=int) for _ in range(3))
    for row, count in enumerate(real):
        ids[row, :count] = np.concatenate([[2], rng.integers(4, VOCAB, count - 2), [3]])
        segments[row, :count], positions[row, :count] = 1, np.arange(count)
        places[row, :count - 1], used[row, :count - 1] = np.arange(count - 1), 1
        labels[row, :count - 1] = ids[row, 1:count]
    flat = {"input_ids": ids, "segments": segments, "positions": positions, "masked": places, "labels": labels, "weights": used}
    return {"rows": rows, "length": length, "slots": length - 1} | {key: value.flatten().tolist() for key, value in flat.items()}


def objective(student, teacher, batch, tau=2.0, alpha_soft=2.0):
    """Equation 3 with alpha_h = 1 at every asked token: total, hard and soft loss, in nats a token."""
    grid = lambda key, width: torch.tensor(batch[key]).reshape(batch["rows"], width)
    inputs = {"input_ids": grid("input_ids", batch["length"]), "attention_mask": (grid("segments", batch["length"]) > 0).long()}
    used = grid("weights", batch["slots"]).flatten() > 0
    asked = lambda model: model(**inputs).logits[:, :-1].flatten(0, 1)[used]
    logits = asked(student)
    with torch.no_grad():
        target = torch.softmax(asked(teacher) / tau, 1)
    hard = F.cross_entropy(logits, grid("labels", batch["slots"]).flatten()[used])
    soft = F.kl_div(F.log_softmax(logits / tau, 1), target, reduction="batchmean")
    return hard + alpha_soft * soft, hard, soft


STUDENTS = {
    "llama": lambda: causal(np.random.default_rng(81), "llama", VOCAB, 16, 2, 4, 2, 24, 12, tie_word_embeddings=False, theta=500000.0, scaling=SCALING),
    "qwen3": lambda: causal(np.random.default_rng(82), "qwen3", VOCAB, 12, 2, 4, 1, 16, 12, head_dim=6, tie_word_embeddings=True),
    "smollm3": lambda: causal(
        np.random.default_rng(83), "smollm3", VOCAB, 16, 2, 2, 2, 20, 12, no_rope_layer_interval=2, attention_bias=True, mlp_bias=True,
        tie_word_embeddings=True,
    ),
}


def distillation():
    """Students of two layers, each taught by the same Llama of one."""
    teacher = causal(np.random.default_rng(84), "llama", VOCAB, 8, 1, 2, 1, 12, 12, tie_word_embeddings=True)
    save_file(weights(teacher), HERE / "llama-teacher.safetensors", {"format": "pt"})
    rng = np.random.default_rng(85)
    batches = [batch(rng, 4, 10) for _ in range(3)]
    cases = []
    for name, make in STUDENTS.items():
        student = make()
        save_file(weights(student), HERE / f"llama-student-{name}.safetensors", {"format": "pt"})
        total, hard, soft = objective(student, teacher, batches[0])
        total.backward()
        save_file(gradients(student), HERE / f"llama-gradients-{name}.safetensors", {"format": "pt"})
        cases.append({"name": name, "config": dialect_of(student, "both"), "total": total.item(), "hard": hard.item(), "soft": soft.item()})

    trained, record = train(STUDENTS["llama"], teacher, batches, "adamw", 0.1, 2e-3, (5, 20), 2.0, objective=objective)
    save_file(weights(trained), HERE / "llama-after.safetensors", {"format": "pt"})
    return {
        "teacher": dialect_of(teacher, "both"), "batches": batches, "gradients": cases, "losses": record["losses"],
        "norms": record["norms"],
    }


if __name__ == "__main__":
    write_json("llama.json", {"versions": VERSIONS, "cases": models(), "distillation": distillation()})
