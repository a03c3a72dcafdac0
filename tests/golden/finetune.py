"""Makes tests/golden/finetune.json and finetune-*.safetensors: fine-tuning by `transformers`, step by step and without dropout.

    pip install torch transformers safetensors numpy
    python tests/golden/finetune.py

Every batch is the whole training split, so that its order says nothing; pairs and single sentences of several lengths, padded.
"""

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast, get_linear_schedule_with_warmup

from folders import drawn
from make import HERE, VERSIONS, weights, write_json
from texts import vocabulary

STEPS, LR, LENGTH = 20, 2e-3, 14
VOCAB = vocabulary(cased=False)
PAIRS = [
    ("the cat sat on the mat .", "a cat sat .", 4.5, 1),
    ("the cat", "unhappy , and a very long sentence that is cut by the length that is allowed", 0.5, 0),
    ("a", "b", 2.0, 1),
    ("the mat sat on the cat , and the cat sat on the mat", "a cat", 3.25, 0),
    ("unhappy", "unhappy cat !", 1.0, 2),
]


def case(kind, outputs):
    config = BertConfig(vocab_size=len(VOCAB), hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
                        max_position_embeddings=16, num_labels=outputs, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                        problem_type="regression" if outputs == 1 else "single_label_classification", attn_implementation="eager")
    model = drawn(BertForSequenceClassification(config), 31 + outputs, torch.float32)
    save_file(weights(model), HERE / f"finetune-{kind}-start.safetensors", {"format": "pt"})
    tokenizer = BertTokenizerFast(vocab={token: i for i, token in enumerate(VOCAB)}, do_lower_case=True)
    rows = PAIRS if kind == "regression" else [(first, None, score, label) for first, _, score, label in PAIRS]
    texts = [[row[0] for row in rows]] + ([[row[1] for row in rows]] if kind == "regression" else [])
    inputs = tokenizer(*texts, truncation=True, max_length=LENGTH, padding=True, return_tensors="pt")
    labels = torch.tensor([row[2] for row in rows]).double() if outputs == 1 else torch.tensor([row[3] for row in rows])
    with torch.no_grad():
        logits = model(**inputs).logits
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, STEPS)
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    save_file(weights(model), HERE / f"finetune-{kind}-after.safetensors", {"format": "pt"})
    return {
        "name": kind, "outputs": outputs, "first": [row[0] for row in rows],
        "second": [row[1] for row in rows] if kind == "regression" else None,
        "labels": labels.tolist(), "logits": logits.flatten().tolist(), "losses": losses, "norms": norms,
    }


def main():
    cases = [case("regression", 1), case("classes", 3)]
    write_json("finetune.json", {"versions": VERSIONS, "lr": LR, "length": LENGTH, "steps": STEPS, "cases": cases})


if __name__ == "__main__":
    main()
