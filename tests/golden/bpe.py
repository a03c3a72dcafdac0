"""Makes tests/golden/bpe/ and bpe.json: a byte-level BPE tokenizer as ModernBERT has one, and its ids of the hostile texts.

    pip install torch transformers tokenizers
    python tests/golden/bpe.py

As in ModernBERT's tokenizer.json: NFC, GPT-2's words, runs of blanks found whole, special tokens after the merges, a [MASK] that takes
the space before it along. The merges are from the hostile texts themselves.
"""

import json

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from make import HERE, VERSIONS
from texts import TEXTS

MORE = ["  two  blanks", "a\n\nb", "    four\ttab", "The cat [MASK] on the  [MASK].", "unhappy unhappier UNHAPPY", "[CLS] a [SEP]"]
SPECIAL = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]"}


def main():
    inner = Tokenizer(models.BPE())
    inner.normalizer = normalizers.NFC()
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, min_frequency=2, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    inner.train_from_iterator(TEXTS * 3, trainer)
    inner.add_tokens([AddedToken(" " * n, normalized=True) for n in (4, 3, 2)] + [AddedToken("|||URL|||", normalized=True)])
    inner.add_special_tokens([AddedToken(token, lstrip=token == "[MASK]") for token in SPECIAL.values()])
    folder = HERE / "bpe"
    PreTrainedTokenizerFast(
        tokenizer_object=inner, **{key: AddedToken(token, lstrip=token == "[MASK]", special=True) for key, token in SPECIAL.items()},
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = TEXTS + MORE
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    found = {"versions": VERSIONS, "texts": texts, "ids": ids, "decoded": tokenizer.batch_decode(ids)}
    (HERE / "bpe.json").write_text(json.dumps(found, separators=(",", ":"), ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
