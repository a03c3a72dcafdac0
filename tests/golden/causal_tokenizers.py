"""Makes tests/golden/causal_tokenizers.json: tokenizers of causal models' shapes (GPT-2's, SmolLM2's, Llama 3's, Qwen3's), and their ids
of the hostile texts.

    pip install torch transformers tokenizers
    python tests/golden/causal_tokenizers.py

A case is a folder's files, the ids that `transformers` gives every text with them, and `opened`, those of one text with what the tokenizer
puts before it; or `refused`, what upstill's error names. Files are as those models' are published: words split by their own patterns, special
tokens by their names, settings with their keys. One small vocabulary is behind all of them, merged from the hostile texts.
"""

import json
import logging
import tempfile
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX as QWEN2

from make import HERE, VERSIONS
from texts import TEXTS

LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
DIGITS = ["1234567890 12 123 1234 007, 3.14159", "In 1969 and 2024, 100,000 of 12,345", "½ Ⅷ 一二三 १२३४ 1st2nd"]
SPECIAL = ["<|endoftext|> a<|im_start|>user\nhi<|im_end|>\n", "<|begin_of_text|>the<|eot_id|> <|end_of_text|>", "don't DON'T we'Ll I'M it'ſ",
           "a\r\nb\n\n\nc \n d\t\te  f   ", "<think> no </think>", " the the  the", "Ġthe Ċ ĉ"]
ALL = [*TEXTS, *DIGITS, *SPECIAL]
WIDE = [text for text in TEXTS if text.isascii()] + DIGITS[:2] * 3


def merged():
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=350, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    inner.train_from_iterator(WIDE, trainer)
    model = json.loads(inner.to_str())["model"]
    return list(model["vocab"]), [tuple(merge) for merge in model["merges"]]


PIECES, MERGES = merged()


def bpe(first=(), last=(), **more):
    return models.BPE({token: at for at, token in enumerate([*first, *PIECES, *last])}, MERGES, **more)


def built(model, pre, special, normalizer=None, post=None, user=()):
    inner = Tokenizer(model)
    inner.pre_tokenizer, inner.decoder = pre, decoders.ByteLevel()
    if normalizer:
        inner.normalizer = normalizer
    inner.add_special_tokens(special)
    inner.add_tokens([AddedToken(token, normalized=False) for token in user])
    if post:
        inner.post_processor = post(inner) if callable(post) else post
    return json.loads(inner.to_str())


def bytes_after(*before, words=True):
    own = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)
    return pre_tokenizers.Sequence([*before, own]) if before else own


def split(pattern):
    return bytes_after(pre_tokenizers.Split(Regex(pattern), "isolated"), words=False)


def opened(token):
    def of(inner):
        template = processors.TemplateProcessing(single=f"{token} $A", pair=f"{token} $A {token}:1 $B:1", special_tokens=[(token, inner.token_to_id(token))])
        return processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return of


END, CHAT = "<|endoftext|>", ["<|im_start|>", "<|im_end|>"]
SMOL = [END, *CHAT, "<repo_name>"]
QWEN = [END, *CHAT, "<|object_ref_start|>"]
LLAMA = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|eot_id|>"]
GPT2_JSON = built(bpe(last=[END]), bytes_after(), [AddedToken(END, normalized=True)], post=processors.ByteLevel(trim_offsets=False))
SMOL_JSON = built(bpe(first=SMOL), bytes_after(pre_tokenizers.Digits(individual_digits=True)), SMOL)
LLAMA_JSON = built(bpe(ignore_merges=True), split(LLAMA3), LLAMA, post=opened(LLAMA[0]))
QWEN_JSON = built(bpe(), split(QWEN2), QWEN, normalizer=normalizers.NFC(), post=processors.ByteLevel(trim_offsets=False), user=["<think>", "</think>"])


def decoder(file):
    keys = ["content", "lstrip", "normalized", "rstrip", "single_word", "special"]
    return {str(token["id"]): {key: token[key] for key in keys} for token in file["added_tokens"]}


def folder(file, config, model):
    return {"tokenizer.json": file, "config.json": {"model_type": model}} | ({"tokenizer_config.json": config} if config is not None else {})


def smol(**more):
    return {"add_prefix_space": False, "added_tokens_decoder": decoder(SMOL_JSON), "additional_special_tokens": CHAT, "bos_token": CHAT[0],
            "chat_template": "{{ messages }}", "clean_up_tokenization_spaces": False, "eos_token": CHAT[1], "model_max_length": 8192,
            "pad_token": CHAT[1], "unk_token": END, "vocab_size": 354} | more


def qwen(**more):
    return {"add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": decoder(QWEN_JSON), "additional_special_tokens": QWEN[1:],
            "bos_token": None, "chat_template": "{{ messages }}", "clean_up_tokenization_spaces": False, "eos_token": CHAT[1], "errors": "replace",
            "model_max_length": 131072, "pad_token": END, "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None} | more


def llama(**more):
    return {"added_tokens_decoder": decoder(LLAMA_JSON), "bos_token": LLAMA[0], "eos_token": LLAMA[3], "chat_template": "{{ messages }}",
            "clean_up_tokenization_spaces": True, "model_input_names": ["input_ids", "attention_mask"], "model_max_length": 131072,
            "tokenizer_class": "PreTrainedTokenizerFast"} | more


def gpt2(**more):
    token = {"__type": "AddedToken", "content": END, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    return {"add_bos_token": False, "add_prefix_space": False, "bos_token": token, "eos_token": token, "errors": "replace", "model_max_length": 1024,
            "tokenizer_class": "GPT2Tokenizer", "unk_token": token} | more


CASES = {
    "GPT-2": folder(GPT2_JSON, gpt2(), "gpt2"),
    "GPT-2 as first published": folder(GPT2_JSON, {"model_max_length": 1024}, "gpt2"),
    "GPT-2 without settings": folder(GPT2_JSON, None, "gpt2"),
    "GPT-2 with padding": folder(GPT2_JSON, gpt2(pad_token=END, add_bos_token=True), "gpt2"),
    "GPT-2 after a blank": folder(GPT2_JSON | {"pre_tokenizer": GPT2_JSON["pre_tokenizer"] | {"add_prefix_space": True}}, gpt2(add_prefix_space=True), "gpt2"),
    "SmolLM2, whole": folder(SMOL_JSON, smol(tokenizer_class="PreTrainedTokenizerFast"), "llama"),
    "SmolLM2 without a class": folder(SMOL_JSON, smol(), "llama"),
    "Llama 3": folder(LLAMA_JSON, llama(), "llama"),
    "Llama 3 by Llama's class": folder(LLAMA_JSON, llama(tokenizer_class="LlamaTokenizerFast"), "llama"),
    "Llama 3 with keys that are passed over": folder(LLAMA_JSON, llama(add_bos_token=False, add_eos_token=True), "llama"),
    "Qwen3": folder(QWEN_JSON, qwen(), "qwen3"),
    "Qwen3 without a class": folder(QWEN_JSON, {key: value for key, value in qwen().items() if key != "tokenizer_class"}, "qwen3"),
    "Qwen3 without a key": folder(QWEN_JSON, {"tokenizer_class": "Qwen2Tokenizer"}, "qwen3"),
}
REFUSED = {
    "eos_token": folder(LLAMA_JSON, {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": LLAMA[0]}, "llama"),
    "split_special_tokens": folder(LLAMA_JSON, llama(split_special_tokens=True), "llama"),
    "<|nowhere|>": folder(LLAMA_JSON, llama(pad_token="<|nowhere|>"), "llama"),
    "tokenizer_class": folder(LLAMA_JSON | {"pre_tokenizer": None}, llama(tokenizer_class="LlamaTokenizer"), "llama"),
}


def ids(files):
    with tempfile.TemporaryDirectory() as path:
        for name, content in files.items():
            (Path(path) / name).write_text(json.dumps(content))
        read = AutoTokenizer.from_pretrained(path)
        return {"ids": read(ALL, add_special_tokens=False)["input_ids"], "opened": read("the cat")["input_ids"]}


def main():
    logging.disable()
    cases = [{"name": name, "files": files} | ids(files) for name, files in CASES.items()]
    for case in cases:
        print(f"{case['name']:40} {len(case['ids'][0])} {case['opened']}")
    # Settings change nothing of ids here but by their own keys.
    same = lambda *names: len({json.dumps(case["ids"]) for case in cases if case["name"] in names}) == 1
    assert same("GPT-2", "GPT-2 as first published", "GPT-2 without settings") and same("Llama 3", "Llama 3 by Llama's class")
    cases += [{"name": f"refused: {key}", "files": files, "refused": key} for key, files in REFUSED.items()]
    head = json.dumps({"versions": VERSIONS, "texts": ALL}, separators=(",", ":"))
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (HERE / "causal_tokenizers.json").write_text(head[:-1] + ',"cases":[\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main()
