"""Makes tests/golden/pairs.json: pseudo-log-likelihoods of sentences by `transformers`, on the model of tests/golden/folders/legacy.

    pip install torch transformers safetensors numpy
    python tests/golden/pairs.py

One sentence and one masked token at a time, in float64: Salazar et al. 2020 (`original`), and Kauf and Ivanova 2023 (`within_word`,
their PLL-word-l2r), where the later pieces of the token's word are masked too.
"""

import torch
from transformers import BertForMaskedLM, BertTokenizerFast

from make import HERE, VERSIONS, write_json

FOLDER = HERE / "folders" / "legacy"
PAIRS = [
    ("The cat sat on the mat.", "The cat mat on the sat."),
    ("unhappy cats", "cats unhappy"),
    ("the cat sat", "the sat cat"),
    ("naive cafe", "cafe naive"),
    ("cat", "mat"),
    ("unhappying", "unhappys the"),
    ("The cat (sat)!", "The cat (mat)!"),
]


def score(model, tokenizer, text, within_word):
    encoded = tokenizer(text, return_tensors="pt")
    ids, words = encoded["input_ids"], encoded.word_ids()
    total = 0.0
    for at in range(1, ids.shape[1] - 1):
        masked = ids.clone()
        masked[0, at] = tokenizer.mask_token_id
        for later in range(at + 1, ids.shape[1] - 1):
            if within_word and words[later] == words[at]:
                masked[0, later] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = model(input_ids=masked).logits
        total += torch.log_softmax(logits[0, at], -1)[ids[0, at]].item()
    return total


def main():
    model = BertForMaskedLM.from_pretrained(FOLDER, attn_implementation="eager").double().eval()
    tokens = (FOLDER / "vocab.txt").read_text().splitlines()
    tokenizer = BertTokenizerFast(vocab={token: i for i, token in enumerate(tokens)}, do_lower_case=True)
    both = lambda text: {"original": score(model, tokenizer, text, False), "within_word": score(model, tokenizer, text, True)}
    pairs = [{"sentence_good": good, "sentence_bad": bad, "good": both(good), "bad": both(bad)} for good, bad in PAIRS]
    write_json("pairs.json", {"versions": VERSIONS, "pairs": pairs})


if __name__ == "__main__":
    main()
