"""Whether `transformers` takes a folder that upstill wrote: python tests/golden/check_export.py DIR

Fails on any warning, on weights that are missing, left over or of another shape, and on token ids or logits that differ from
upstill's where DIR holds `expected.json`: {"texts": [...], "ids": [[...]], "logits": [[...]]}, ids without special tokens,
logits at [CLS] and [SEP] of [CLS] ids [SEP], one after the other. `cargo test golden` leaves such folders in target/tmp/export-*.
"""

import json
import logging
import sys
import warnings
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

LOGITS_TOLERANCE = 1e-4


class Complaints(logging.Handler):
    """Collects what the library logs as a warning or worse."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def check(folder):
    complaints = Complaints()
    transformers.utils.logging.get_logger().addHandler(complaints)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        is_causal = AutoConfig.from_pretrained(folder).architectures[0].endswith(("ForCausalLM", "LMHeadModel"))
        model, info = (AutoModelForCausalLM if is_causal else AutoModelForMaskedLM).from_pretrained(folder, output_loading_info=True)
        model.eval()
    problems = [f"warning: {line}" for line in complaints.lines] + [f"warning: {w.message}" for w in warned]
    problems += [f"{what}: {found}" for what, found in info.items() if found]
    words, vocab = model.get_input_embeddings().weight, len(tokenizer)
    if words.shape[0] != vocab:
        problems.append(f"the model has {words.shape[0]} tokens and the tokenizer {vocab}")
    if (model.get_output_embeddings().weight.data_ptr() == words.data_ptr()) != model.config.tie_word_embeddings:
        problems.append("the decoder is not tied to the word table, or tied where it should not be")
    if tokenizer.model_max_length != model.config.max_position_embeddings:
        problems.append(f"model_max_length is {tokenizer.model_max_length}, not {model.config.max_position_embeddings}")
    print(f"{type(model).__name__}, {type(tokenizer).__name__}, {model.num_parameters()} parameters, {vocab} tokens")

    expected = folder / "expected.json"
    if expected.exists():
        problems += compare(json.loads(expected.read_text()), tokenizer, model)
    else:
        print(f"no {expected}: ids and logits not compared")
    return problems


def compare(expected, tokenizer, model):
    problems, worst = [], 0.0
    for text, ids, logits in zip(expected["texts"], expected["ids"], expected["logits"], strict=True):
        found = tokenizer(text, add_special_tokens=False)["input_ids"]
        if found != ids:
            problems.append(f"ids of {text[:60]!r}: {found[:20]}, upstill {ids[:20]}")
        row = [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]
        with torch.no_grad():
            of_model = model(input_ids=torch.tensor([row])).logits[0, [0, -1]].flatten()
        worst = max(worst, (of_model - torch.tensor(logits)).abs().max().item())
    print(f"{len(expected['texts'])} texts; logits differ by at most {worst:.2e}")
    if not worst <= LOGITS_TOLERANCE:
        problems.append(f"logits differ by {worst}, more than {LOGITS_TOLERANCE}")
    return problems


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    found = check(Path(sys.argv[1]))
    print("\n".join(found) or "as it should be")
    sys.exit(1 if found else 0)
