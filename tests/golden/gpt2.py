"""Makes the GPT-2 goldens of tests/golden/causal.rs: GPT-2 as `transformers` has it.

    pip install torch transformers safetensors numpy
    python tests/golden/gpt2.py

As in llama.py: inputs are exact in float32, everything is computed from them in float64.
"""

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import GPT2Config, GPT2LMHeadModel

from llama import VOCAB, batch, greedy, objective
from make import HERE, VERSIONS, exact, gradients, logits_of, train, weights, write_json, written


def gpt2(rng, vocab, hidden, layers, heads, inner, positions, **more):
    """Every parameter is random and matters: sharp attention, norms and biases that aren't 1 and 0."""
    model = GPT2LMHeadModel(GPT2Config(
        vocab_size=vocab, n_embd=hidden, n_layer=layers, n_head=heads, n_inner=inner, n_positions=positions, pad_token_id=0, bos_token_id=2,
        eos_token_id=3, attn_implementation="sdpa", **more,
    )).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            draw = rng.normal(0, 1, tuple(parameter.shape))
            if "ln_" in name and name.endswith("weight"):
                draw = 1 + 0.2 * draw
            elif name.endswith("bias"):
                draw = 0.2 * draw
            elif "wte" not in name and "wpe" not in name:
                draw = 1.5 * draw / np.sqrt(parameter.shape[0])
            parameter.copy_(exact(draw))
    return model


def models():
    cases = []
    for name, seed, sizes, more, rows, length, real in [
        # name, seed, (vocab, hidden, layers, heads, feed-forward, positions), settings, rows, length, real tokens a row
        ("one-layer", 91, (31, 12, 1, 3, None, 20), {}, 3, 9, [9, 4, 1]),
        ("one-head", 92, (40, 10, 3, 1, 24, 24), {}, 4, 12, [12, 12, 7, 2]),
        ("narrow", 93, (29, 16, 2, 4, 7, 40), {"layer_norm_epsilon": 1e-3}, 2, 30, [30, 16]),
        ("tanh", 94, (23, 8, 2, 2, 40, 20), {"activation_function": "gelu_pytorch_tanh"}, 2, 12, [12, 5]),
        ("long", 95, (23, 8, 6, 2, 12, 200), {}, 2, 150, [150, 90]),
    ]:
        rng = np.random.default_rng(seed)
        model = gpt2(rng, *sizes, **more)
        ids = rng.integers(0, sizes[0], (rows, length))
        save_file(weights(model), HERE / f"gpt2-{name}.safetensors", {"format": "pt"})
        prompt = ids[0, :5].tolist()
        made = written(model)
        if sizes[4] is None:
            made.pop("n_inner")
        cases.append({"name": name, "config": made} | logits_of(model, ids, real) | {"prompt": prompt, "greedy": greedy(model, prompt)})
    return cases


def distillation():
    """A student of two layers, taught by one of one."""
    make = lambda: gpt2(np.random.default_rng(96), VOCAB, 16, 2, 4, 24, 12)
    teacher, student = gpt2(np.random.default_rng(97), VOCAB, 8, 1, 2, 12, 12), make()
    save_file(weights(teacher), HERE / "gpt2-teacher.safetensors", {"format": "pt"})
    save_file(weights(student), HERE / "gpt2-student-gpt2.safetensors", {"format": "pt"})
    rng = np.random.default_rng(98)
    batches = [batch(rng, 4, 10) for _ in range(3)]
    total, hard, soft = objective(student, teacher, batches[0])
    total.backward()
    save_file(gradients(student), HERE / "gpt2-gradients-gpt2.safetensors", {"format": "pt"})
    case = {"name": "gpt2", "config": written(student), "total": total.item(), "hard": hard.item(), "soft": soft.item()}
    trained, record = train(make, teacher, batches, "adamw", 0.1, 2e-3, (5, 20), 2.0, objective=objective)
    save_file(weights(trained), HERE / "gpt2-after.safetensors", {"format": "pt"})
    return {"teacher": written(teacher), "batches": batches, "gradients": [case], "losses": record["losses"], "norms": record["norms"]}


if __name__ == "__main__":
    write_json("gpt2.json", {"versions": VERSIONS, "cases": models(), "distillation": distillation()})
