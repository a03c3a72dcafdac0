"""Makes tests/golden/names.json: tokenizers whose special tokens have other names than BERT's, and their ids of the hostile texts.

    pip install torch transformers tokenizers
    python tests/golden/names.py

A case is a folder's files, and the ids that `transformers` gives every text with them; or `refused`, what upstill's error names. The merges
are from the hostile texts themselves.
"""

import json
import tempfile
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, RobertaTokenizer

from make import HERE, VERSIONS
from texts import TEXTS

KEYS = ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"]
ROBERTAS = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
GEMMAS = ["<pad>", "<unk>", "<bos>", "<eos>", "<mask>"]
MORE = ["The cat <mask> on the  <mask>.", "x<mask>y <s> a </s> <bos> <pad><unk>", "<MASK> < mask>", "  two  blanks\n\n a"]
ALL = TEXTS + MORE


def bytes_merged(prefix_space=False):
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=ROBERTAS, initial_alphabet=alphabet, show_progress=False)
    inner.train_from_iterator(TEXTS, trainer)
    return inner


def letters_merged():
    """As in Gemma's: blanks are letters of their own kind, and letters without a piece fall back to bytes."""
    inner = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    inner.normalizer = normalizers.Replace(" ", "\u2581")
    inner.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    special = [*GEMMAS, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=special, limit_alphabet=50, show_progress=False)
    inner.train_from_iterator(TEXTS, trainer)
    file = json.loads(inner.to_str())
    file["added_tokens"] = [token for token in file["added_tokens"] if not token["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(file))


def pieces():
    words = [*ROBERTAS, *"abcdehistxy.", *("##" + letter for letter in "abcdehistxy"), "the", "cat"]
    inner = Tokenizer(models.WordPiece({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    inner.normalizer, inner.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    inner.add_special_tokens(ROBERTAS)
    return inner


def named(names, lstrip=True):
    return dict(zip(KEYS, names[:4])) | {"mask_token": AddedToken(names[4], lstrip=lstrip, special=True)}


def files_of(tokenizer, changed=None):
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        if changed:
            path = Path(folder) / "tokenizer_config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | changed))
        ids = AutoTokenizer.from_pretrained(folder)(ALL, add_special_tokens=False)["input_ids"]
        files = {path.name: json.loads(path.read_text()) for path in sorted(Path(folder).iterdir())}
    return {"files": files, "ids": ids}


def json_alone(inner):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner)
    return {"files": {"tokenizer.json": json.loads(inner.to_str())}, "ids": tokenizer(ALL, add_special_tokens=False)["input_ids"]}


def few(names):
    """Only these of the special tokens have a name."""
    return PreTrainedTokenizerFast(tokenizer_object=bytes_merged(), **names)


def refused(names, key):
    return {"files": files_of(few(names))["files"], "refused": key}


def roberta(**more):
    file = json.loads(bytes_merged().to_str())["model"]
    merges = [tuple(pair) for pair in file["merges"]]
    return RobertaTokenizer(vocab=file["vocab"], merges=merges, mask_token=AddedToken("<mask>", lstrip=True, special=True), **more)


def main():
    whole = lambda inner, names: PreTrainedTokenizerFast(tokenizer_object=inner, **named(names))
    cases = {
        "RoBERTa": files_of(roberta()),
        "RoBERTa after a blank": files_of(roberta(add_prefix_space=True)),
        "RoBERTa as most folders say": files_of(roberta(), {"tokenizer_class": "RobertaTokenizerFast"}),
        "merges of bytes, whole": files_of(whole(bytes_merged(True), ROBERTAS)),
        "merges of letters, whole": files_of(whole(letters_merged(), GEMMAS)),
        "WordPiece, whole": files_of(whole(pieces(), ROBERTAS)),
        "tokenizer.json alone": json_alone(bytes_merged()),
        "one token for two": files_of(whole(bytes_merged(), ["</s>", "<unk>", "<s>", "</s>", "<mask>"])),
        "no mask": files_of(few(dict(list(named(ROBERTAS).items())[:4]))),
        "no mask, as causal models say": files_of(few({"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"})),
        "no padding": files_of(few(dict(list(named(ROBERTAS).items())[1:4]))),
        "an end alone": files_of(few({"sep_token": "</s>"})),
        "refused: no end": refused(dict(list(named(ROBERTAS).items())[:3]), "eos_token"),
        "refused: a mask alone": refused({"mask_token": "<mask>"}, "eos_token"),
    }
    cases = [{"name": name} | case for name, case in cases.items()]
    head = json.dumps({"versions": VERSIONS, "texts": ALL}, separators=(",", ":"))
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (HERE / "names.json").write_text(head[:-1] + ',"cases":[\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main()
