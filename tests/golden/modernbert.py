"""Makes the goldens of tests/golden/modern.rs: ModernBERT as `transformers` has it.

    pip install torch transformers safetensors numpy
    python tests/golden/modernbert.py

As in make.py: inputs are exact in float32, everything is computed from them in float64 (but for `transformers`' rotary angles, which
are float32 whatever the model is), nothing is downloaded. Attention is PyTorch's own (sdpa): `transformers`' eager one takes its softmax in
float32, where a row that sees nothing, as padding outside a window does, is NaN. The BERT that teaches and is taught is make.py's.
"""

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import (
    BertTokenizerFast, ModernBertConfig, ModernBertForMaskedLM, ModernBertForSequenceClassification,
    get_linear_schedule_with_warmup,
)

import finetune
from make import (
    HERE, VERSIONS, VOCAB, batch, bert, drawn, gradients, logits_of, objective, train, weights, write_json, written,
)

OLD = ("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta")
NEW = ("layer_types", "rope_parameters")


def config(vocab, hidden, layers, heads, intermediate, positions, every=3, window=128, thetas=(160000, 10000), **more):
    return ModernBertConfig(
        vocab_size=vocab, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=intermediate,
        max_position_embeddings=positions, global_attn_every_n_layers=every, local_attention=window, global_rope_theta=thetas[0],
        local_rope_theta=thetas[1], pad_token_id=0, cls_token_id=2, bos_token_id=2, sep_token_id=3, eos_token_id=3,
        attn_implementation="sdpa", **more,
    )


def modernbert(rng, *sizes, **more):
    return drawn(ModernBertForMaskedLM(config(*sizes, **more)).double().eval(), rng)


def dialect_of(model, dialect):
    """The model's config.json: as published ("old"), as `transformers` 5 writes it ("new"), or with both."""
    c, full = model.config, written(model) | {"architectures": ["ModernBertForMaskedLM"], "model_type": "modernbert"}
    old = dict(zip(OLD, (c.global_attn_every_n_layers, *(c.rope_parameters[kind]["rope_theta"] for kind in ("full_attention", "sliding_attention")))))
    kept = {key: value for key, value in full.items() if key not in OLD + NEW}
    new = {key: full[key] for key in NEW}
    return kept | (old if dialect != "new" else {}) | (new if dialect != "old" else {})


def models():
    cases = []
    for name, seed, sizes, more, rows, length, real, dialect in [
        # name, seed, (vocab, hidden, layers, heads, intermediate, positions), settings, rows, length, real tokens a row, dialect
        ("one-layer", 11, (31, 12, 1, 3, 20, 16), {}, 3, 9, [9, 4, 1], "old"),
        ("three-layers", 12, (40, 16, 3, 4, 24, 24), {"window": 4}, 4, 12, [12, 12, 7, 2], "old"),
        ("heads-of-32", 13, (23, 64, 3, 2, 24, 40), {"window": 8, "every": 2}, 2, 30, [30, 16], "new"),
        ("heads-of-64", 14, (29, 64, 2, 1, 32, 40), {"window": 16}, 2, 33, [33, 8], "old"),
        ("window-of-two", 15, (20, 8, 5, 2, 12, 16), {"window": 2}, 3, 16, [16, 11, 3], "new"),
        ("long", 16, (20, 8, 4, 2, 12, 512), {"window": 64, "every": 2}, 2, 300, [300, 150], "both"),
        ("all-global", 17, (37, 16, 2, 2, 24, 12), {"every": 1, "decoder_bias": False}, 2, 11, [11, 8], "new"),
        ("one-theta", 18, (25, 16, 7, 2, 20, 24), {"thetas": (160000, 160000), "window": 6, "norm_eps": 1e-3}, 2, 20, [20, 13], "both"),
        ("odd-window", 19, (25, 8, 2, 2, 12, 24), {"window": 5, "every": 4, "classifier_pooling": "mean"}, 2, 20, [20, 9], "old"),
    ]:
        rng = np.random.default_rng(seed)
        model = modernbert(rng, *sizes, **more)
        ids = rng.integers(0, sizes[0], (rows, length))
        ids[-1] = ids[-1, 0]  # a row of one token all along
        save_file(weights(model), HERE / f"modernbert-{name}.safetensors", {"format": "pt"})
        cases.append({"name": name, "config": dialect_of(model, dialect)} | logits_of(model, ids, real))
    return cases


def distillation():
    """A ModernBERT of two layers, one of them local, taught by a BERT; and a BERT taught by it."""
    make_student = lambda: modernbert(np.random.default_rng(51), VOCAB, 16, 2, 4, 24, 12, every=2, window=4)
    teacher = bert(np.random.default_rng(22), VOCAB, 16, 1, 2, 24, 12)
    rng = np.random.default_rng(23)
    batches = [batch(rng, 4, 10) for _ in range(3)]
    student = make_student()
    save_file(weights(student), HERE / "modernbert-student.safetensors", {"format": "pt"})
    total, hard, soft = objective(student, teacher, batches[0])
    total.backward()
    save_file(gradients(student), HERE / "modernbert-gradients.safetensors", {"format": "pt"})
    gradient = {"total": total.item(), "hard": hard.item(), "soft": soft.item()}
    total, hard, soft = objective(bert(np.random.default_rng(21), VOCAB, 16, 2, 4, 32, 12), student, batches[0])
    reverse = {"total": total.item(), "hard": hard.item(), "soft": soft.item()}

    trained, record = train(make_student, teacher, batches, "adamw", 0.1, 2e-3, (5, 20), 2.0)
    save_file(weights(trained), HERE / "modernbert-after.safetensors", {"format": "pt"})
    return {"config": dialect_of(student, "both"), "gradient": gradient, "reverse": reverse, "losses": record["losses"], "norms": record["norms"]}


def tuning(pooling):
    """Twenty steps of fine-tuning a classifier, on texts of several lengths with padding."""
    vocab = finetune.VOCAB
    made = config(len(vocab), 8, 2, 2, 12, 16, every=2, window=4, classifier_pooling=pooling, num_labels=3)
    made.problem_type = "single_label_classification"
    model = drawn(ModernBertForSequenceClassification(made).double(), np.random.default_rng(61)).train()
    save_file(weights(model), HERE / f"modernbert-{pooling}-start.safetensors", {"format": "pt"})
    tokenizer = BertTokenizerFast(vocab={token: i for i, token in enumerate(vocab)}, do_lower_case=True)
    texts, labels = [row[0] for row in finetune.PAIRS], torch.tensor([row[3] for row in finetune.PAIRS])
    inputs = tokenizer(texts, truncation=True, max_length=finetune.LENGTH, padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        logits = model(**inputs).logits
    # A sixteenth of the rate of BERT's golden: burn's Adam corrects its bias in f32, which is off by up to 6e-5 / step, and the
    # gradient of these weights grows by half within three steps of a quarter of it.
    optimizer = torch.optim.AdamW(model.parameters(), lr=finetune.LR / 16, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, finetune.STEPS)
    losses, norms = [], []
    for _ in range(finetune.STEPS):
        optimizer.zero_grad()
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    save_file(weights(model), HERE / f"modernbert-{pooling}-after.safetensors", {"format": "pt"})
    return {
        "name": pooling, "config": dialect_of(model, "both"), "first": texts, "labels": labels.tolist(),
        "logits": logits.flatten().tolist(), "losses": losses, "norms": norms,
    }


if __name__ == "__main__":
    write_json("modernbert.json", {
        "versions": VERSIONS, "cases": models(), "distillation": distillation(), "tunings": [tuning("cls"), tuning("mean")],
    })
