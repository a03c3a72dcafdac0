"""Makes the goldens of tests/golden/causal.rs: ModernBERT's decoder twin (Ettin) as `transformers` has it.

    pip install torch transformers safetensors numpy
    python tests/golden/modernbert_decoder.py

As in llama.py: inputs are exact in float32, everything is computed from them in float64 (but for rotary angles, which `transformers`
takes in float32 whatever the model is).
"""

import numpy as np
from safetensors.numpy import save_file
from transformers import ModernBertDecoderConfig, ModernBertDecoderForCausalLM

from llama import VOCAB, batch, greedy, objective
from make import HERE, VERSIONS, drawn, gradients, logits_of, train, weights, write_json, written

OLD = ("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta")
NEW = ("layer_types", "rope_parameters", "sliding_window")


def decoder(rng, vocab, hidden, layers, heads, intermediate, positions, every=3, window=128, thetas=(160000, 10000), **more):
    model = drawn(ModernBertDecoderForCausalLM(ModernBertDecoderConfig(
        vocab_size=vocab, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=intermediate,
        max_position_embeddings=positions, global_attn_every_n_layers=every, local_attention=window, global_rope_theta=thetas[0],
        local_rope_theta=thetas[1], pad_token_id=0, cls_token_id=2, bos_token_id=2, sep_token_id=3, eos_token_id=3,
        attn_implementation="sdpa", **more,
    )).double().eval(), rng)
    model.every = every
    return model


def dialect_of(model, dialect):
    """The model's config.json: as published ("old"), as `transformers` 5 writes it ("new"), or with both."""
    full = written(model)
    old = dict(zip(OLD, (model.every, *(full["rope_parameters"][kind]["rope_theta"] for kind in ("full_attention", "sliding_attention")))))
    kept = {key: value for key, value in full.items() if key not in OLD + NEW}
    new = {key: full[key] for key in NEW}
    return kept | (old if dialect != "new" else {}) | (new if dialect != "old" else {})


def models():
    cases = []
    for name, seed, sizes, more, rows, length, real, dialect in [
        # name, seed, (vocab, hidden, layers, heads, intermediate, positions), settings, rows, length, real tokens a row, dialect
        ("one-layer", 121, (31, 12, 1, 3, 20, 20), {}, 3, 9, [9, 4, 1], "old"),
        ("three-layers", 122, (40, 16, 3, 4, 24, 40), {"window": 8}, 4, 30, [30, 30, 17, 2], "new"),
        ("wide-window", 123, (25, 16, 4, 2, 20, 40), {"window": 64, "every": 2, "thetas": (160000, 160000)}, 2, 20, [20, 13], "both"),
        ("heads-of-32", 124, (23, 64, 3, 2, 24, 40), {"window": 10, "every": 2, "norm_eps": 1e-3}, 2, 30, [30, 16], "old"),
        ("odd-window", 125, (29, 8, 5, 2, 12, 40), {"window": 7, "decoder_bias": False}, 2, 20, [20, 9], "new"),
        ("window-of-four", 126, (20, 8, 3, 2, 12, 40), {"window": 4, "every": 4}, 3, 16, [16, 11, 3], "both"),
        ("long", 127, (23, 8, 7, 2, 12, 256), {"window": 32}, 2, 150, [150, 90], "old"),
    ]:
        rng = np.random.default_rng(seed)
        model = decoder(rng, *sizes, **more)
        ids = rng.integers(0, sizes[0], (rows, length))
        save_file(weights(model), HERE / f"modernbert-decoder-{name}.safetensors", {"format": "pt"})
        prompt = ids[0, :5].tolist()
        cases.append({"name": name, "config": dialect_of(model, dialect)} | logits_of(model, ids, real) | {
            "prompt": prompt, "greedy": greedy(model, prompt),
        })
        print(name, cases[-1]["greedy"])
    return cases


def distillation():
    """A student of two layers, one of them local, taught by one of one."""
    make = lambda: decoder(np.random.default_rng(128), VOCAB, 16, 2, 4, 24, 12, every=2, window=6)
    teacher, student = decoder(np.random.default_rng(129), VOCAB, 8, 1, 2, 12, 12), make()
    save_file(weights(teacher), HERE / "modernbert-decoder-teacher.safetensors", {"format": "pt"})
    save_file(weights(student), HERE / "modernbert-decoder-student-decoder.safetensors", {"format": "pt"})
    rng = np.random.default_rng(130)
    batches = [batch(rng, 4, 10) for _ in range(3)]
    total, hard, soft = objective(student, teacher, batches[0])
    total.backward()
    save_file(gradients(student), HERE / "modernbert-decoder-gradients-decoder.safetensors", {"format": "pt"})
    case = {"name": "decoder", "config": dialect_of(student, "both"), "total": total.item(), "hard": hard.item(), "soft": soft.item()}
    trained, record = train(make, teacher, batches, "adamw", 0.1, 2e-3, (5, 20), 2.0, objective=objective)
    save_file(weights(trained), HERE / "modernbert-decoder-after.safetensors", {"format": "pt"})
    return {
        "teacher": dialect_of(teacher, "both"), "batches": batches, "gradients": [case], "losses": record["losses"],
        "norms": record["norms"],
    }


if __name__ == "__main__":
    write_json("modernbert-decoder.json", {"versions": VERSIONS, "cases": models(), "distillation": distillation()})
