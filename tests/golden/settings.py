"""Makes tests/golden/settings.json: folders of a tokenizer's files, and the ids that `transformers` gives hostile texts with them.

    pip install transformers
    python tests/golden/settings.py

A case is a folder's files; "vocab" stands for VOCAB in them, as lines or as ids. With each go the ids of every text, or `refused`, the key
that upstill refuses by name: `transformers` passes over it, or reads it in another way in another version.
"""

import json
import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import tokenizers
import transformers
from tokenizers import models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, BertTokenizer

HERE = Path(__file__).parent
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCAB = [*SPECIAL, *"abcxyz.,<>[]#", "##a", "##b", "##x", "##y", "the", "The", "THE", "dog", "Dog", "##s", "schon", "schön", "scho\u0308n", "cafe",
         "café", "i", "i\u0307", "İ", "ß", "日", "本", "日本", "##語", "ह", "##िन", "##न", "<URL>", "url", "[unused1]", "mask", "##.b"]
IDS = {piece: at for at, piece in enumerate(VOCAB)}
TEXTS = [
    "", "The dogs THE Dog", "Der Hund ist schön. schon scho\u0308n", "café Cafe\u0301 CAFÉ", "日本語 日本 a日b", "İ ß STRASSE", "हिन हिन्दी", "x[MASK]y [mask] [ MASK ] [SEP]",
    "a<URL>b <URL> <url> url", "the\u2028dog\u0085a\u00a0b\tc\r\n", "a\u0000b\u200bc \ufeffa", "NEW NEWs new [unused1]", "a.b a . b", "x" * 101 + " " + "ab" * 50,
]


def bert(**keys):
    return {"tokenizer_class": "BertTokenizer", **keys}


def token(content, **flags):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False, **flags}


def whole(ids=IDS, normalizer=None, pre=None, added=(), letters=100):
    made = tokenizers.Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=letters))
    made.normalizer = normalizer or normalizers.BertNormalizer()
    made.pre_tokenizer = pre or pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(SPECIAL)
    made.add_tokens(list(added))
    file = json.loads(made.to_str())
    if file["model"]["vocab"] == IDS:
        file["model"]["vocab"] = "vocab"
    return file


def with_config(config, **more):
    return {"vocab.txt": "vocab", "tokenizer_config.json": config, **more}


def lines(*tokens, end="\n"):
    return with_config(bert(), **{"vocab.txt": end.join([*SPECIAL, *tokens, ""])})


CASED, PLAIN = normalizers.BertNormalizer(lowercase=False), pre_tokenizers.WhitespaceSplit()
HOLE = {piece: at for piece, at in IDS.items() if piece != "dog"}
NUMBERED = {"50": token("NEW"), str(VOCAB.index("<URL>")): token("<URL>", special=True)}
CASES = {
    "lower case": with_config(bert(do_lower_case=True)),
    "cased": with_config(bert(do_lower_case=False)),
    "cased without accents": with_config(bert(do_lower_case=False, strip_accents=True)),
    "lower case with accents": with_config(bert(do_lower_case=True, strip_accents=False)),
    "accents as the case says": with_config(bert(do_lower_case=False, strip_accents=None)),
    "Chinese words": with_config(bert(do_lower_case=False, tokenize_chinese_chars=False)),
    "nothing said of the case": with_config(bert()),
    "no class": with_config({"do_lower_case": False, "model_max_length": 512}),
    "another class of BERT's": with_config({"tokenizer_class": "ElectraTokenizerFast", "do_lower_case": False, "strip_accents": True}),
    "DistilBERT": with_config({"tokenizer_class": "DistilBertTokenizer", "strip_accents": False}),
    "ConvBERT": with_config({"tokenizer_class": "ConvBertTokenizer", "strip_accents": False, "tokenize_chinese_chars": False}),
    "keys that change nothing": with_config(bert(never_split=None, do_basic_tokenize=True, model_max_length=8, padding_side="left", cls_token="[CLS]",
                                                 mask_token="[MASK]", clean_up_tokenization_spaces=True, use_fast=False, name_or_path="x",
                                                 special_tokens_map_file=None, bos_token=None, split_special_tokens=False)),
    "tokens by number": with_config(bert(added_tokens_decoder={str(at): token(piece, special=True) for at, piece in enumerate(SPECIAL)}
                                         | {str(len(VOCAB)): token("NEW"), str(VOCAB.index("<URL>")): token("<URL>", special=True)})),
    "tokens by number, normalised": with_config(bert(added_tokens_decoder={str(VOCAB.index("The")): token("The", normalized=True)})),
    "tokens by number, with flags": with_config(bert(added_tokens_decoder={str(VOCAB.index("<URL>")): token("<URL>", lstrip=True, rstrip=True, single_word=True)})),
    "more special tokens": with_config(bert(additional_special_tokens=["<URL>", "NEW"])),
    "extra special tokens": with_config(bert(extra_special_tokens=["NEW", "<URL>"], additional_special_tokens=["a"])),
    "extra tokens by name": with_config(bert(extra_special_tokens={"url_token": "<URL>"}, my_token="dog")),
    "start and end": with_config(bert(bos_token="NEW", eos_token="<URL>")),
    "a mask that is a word": with_config(bert(mask_token={"__type": "AddedToken"} | token("[MASK]", single_word=True, special=True))),
    "a normalised mask": with_config(bert(mask_token={"__type": "AddedToken"} | token("[MASK]", normalized=True))),
    "an older folder": with_config({"do_lower_case": False}, **{
        "special_tokens_map.json": {"unk_token": "[UNK]", "mask_token": token("[MASK]"), "additional_special_tokens": ["<URL>"]},
        "added_tokens.json": {"NEW": len(VOCAB)}}),
    "an older folder's map does not count": with_config(bert(added_tokens_decoder={}), **{"special_tokens_map.json": {"additional_special_tokens": ["<URL>"]}}),
    "lines that end in white space": lines("a ", "b\t", "##c\u3000", "the\u2028", "\u2028", "##\u2028", "\u0085", "\u00a0", "dog"),
    "a token twice": lines("a", "b", "the", "a", "dog", "b"),
    "empty lines": lines("a", "", "b", "dog", "", ""),
    "carriage returns": lines("a", "b", "dog", end="\r\n"),
    "a carriage return within": lines("a\rb", "b", "dog"),
    "tokenizer.json under its settings": {"tokenizer.json": whole(), "tokenizer_config.json": bert(do_lower_case=False)},
    "tokenizer.json under the defaults": {"tokenizer.json": whole(normalizer=CASED, letters=5), "tokenizer_config.json": {"model_max_length": 512}, "config.json": {"model_type": "bert"}},
    "tokenizer.json whole": {"tokenizer.json": whole(normalizer=CASED, pre=PLAIN, letters=5),
                             "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": True}},
    "tokenizer.json whole, and more": {"tokenizer.json": whole(normalizer=CASED),
                                       "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "extra_special_tokens": ["<URL>", "NEW"]}},
    "tokenizer.json whole by config.json": {"tokenizer.json": whole(normalizer=CASED), "tokenizer_config.json": {"do_lower_case": True},
                                            "config.json": {"model_type": "bert", "tokenizer_class": "PreTrainedTokenizerFast"}},
    "tokenizer.json with tokens of its own": {"tokenizer.json": whole(added=["<URL>", "NEW"]), "tokenizer_config.json": bert()},
    "tokenizer.json over vocab.txt": {"tokenizer.json": whole(), "tokenizer_config.json": bert(), "vocab.txt": "\n".join([*SPECIAL, "dog", ""])},
    "tokenizer.json with a hole": {"tokenizer.json": whole(ids=HOLE), "tokenizer_config.json": bert()},
}
REFUSED = {
    "never_split": bert(never_split=["The"]),
    "do_basic_tokenize": bert(do_basic_tokenize=False),
    "clean_text": bert(clean_text=False),
    "split_special_tokens": bert(split_special_tokens=True),
    "wordpieces_prefix": bert(wordpieces_prefix="@@"),
    "unk_token": bert(unk_token="x"),
    "mask_token": bert(mask_token=None),
    "tokenizer_class": {"tokenizer_class": "BertJapaneseTokenizer"},
    "do_lower_case": bert(do_lower_case="false"),
    "strip_accents": bert(strip_accents=1),
    "tokenize_chinese_chars": bert(tokenize_chinese_chars=None),
    "added token `NEW`": bert(added_tokens_decoder={str(len(VOCAB) + 7): token("NEW")}),
    "added_tokens_decoder": bert(added_tokens_decoder=[1]),
    "extra_special_tokens": bert(extra_special_tokens=[3]),
    "auto_map": bert(auto_map={"AutoTokenizer": ["x.Y", None]}),
    "init_inputs": bert(init_inputs=["x"]),
}


def ids(files):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            if name == "tokenizer.json" and content["model"]["vocab"] == "vocab":
                content = content | {"model": content["model"] | {"vocab": IDS}}
            text = content if isinstance(content, str) else json.dumps(content)
            text = "\n".join([*VOCAB, ""]) if text == "vocab" else text
            (Path(folder) / name).write_bytes(text.encode())
        has_class = "tokenizer_class" in files["tokenizer_config.json"] or "config.json" in files
        read = (AutoTokenizer if has_class else BertTokenizer).from_pretrained(folder)
        return [read(text, add_special_tokens=False)["input_ids"] for text in TEXTS]


def main():
    cases = [{"name": name, "files": files, "ids": ids(files)} for name, files in CASES.items()]
    cases += [{"name": f"refused: {key}", "files": with_config(config), "refused": key} for key, config in REFUSED.items()]
    head = {"versions": {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__}, "vocab": VOCAB, "texts": TEXTS}
    text = json.dumps(head)[:-1] + ',\n "cases": [\n  ' + ",\n  ".join(json.dumps(case) for case in cases) + "\n ]}\n"
    (HERE / "settings.json").write_text(text)
    print(f"{len(text)} bytes, {len(cases)} cases")


if __name__ == "__main__":
    main()
