"""Makes tests/golden/choices.json: multiple choice by log-likelihood, by lm-evaluation-harness over `transformers`.

    pip install torch transformers safetensors numpy lm_eval
    python tests/golden/choices.py

A random Llama that opens texts and a random GPT-2 that doesn't, with tokenizers of tests/golden/causal_tokenizers.json, in float64. The
harness itself joins, splits, cuts and scores; questions are lines of every shape that is read, and what is shown of each is made by the
harness's own functions and templates.
"""

import json
import logging
import tempfile
from pathlib import Path

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks.hellaswag.utils import preprocess
from safetensors.numpy import save_file
from transformers import AutoTokenizer

from gpt2 import gpt2
from llama import causal
from make import HERE, VERSIONS, weights, write_json, written

LINES = [
    {"context": "The cat sat on", "choices": ["the mat.", "a hat", "1234 dogs"], "answer": 0},
    {"context": "The cat sat on  ", "choices": ["the mat.", "the  cat"], "answer": "B"},
    {"context": "", "choices": ["the cat sat", "sat cat the", "naïve café über"], "answer": 2},
    {"context": "A line\n\nand another:\n", "choices": [" with a blank", "without", "one, two; three"], "answer": "1"},
    {"context": "东京 Łódź 🙂", "choices": ["ещё", "one more", "éàü"], "answer": 1},
    {"context": "the " * 30 + "the end of a long context is", "choices": ["near", "far away from here, by all that is known"], "answer": 1},
    {"ind": 1, "activity_label": "Roof shingle removal", "ctx_a": "A man is sitting on a roof.", "ctx_b": "he THEN", "ctx": "not read",
     "endings": ["is using wrap to wrap a pair of skis.", "is ripping level tiles off. [substeps] So.", " holds a rubik's cube. "], "label": 2},
    {"activity_label": "Home [title] x", "ctx_a": "How to [header] go [title] Open [step] the door.", "ctx_b": "", "endings": ["a [title] b", "c"], "label": "0"},
    {"goal": "To boil an egg,", "sol1": "put it in hot water.", "sol2": "put it in the sun.", "label": 1},
    {"id": "x", "question": "Which is a planet?", "choices": {"text": ["Mars", "the Moon", "a comet", "the Sun"], "label": ["A", "B", "C", "D"]}, "answerKey": "C"},
    {"question": {"stem": "What is 12 and 12?", "choices": [{"text": "24", "label": "1"}, {"text": "22", "label": "2"}]}, "answerKey": "2"},
    {"question_stem": "The sun is", "choices": {"text": ["hot", "cold and wet"], "label": ["A", "B"]}, "answerKey": "A "},
]


def shown(line):
    """The context and the choices, by the harness's tasks `hellaswag`, `piqa`, `arc_easy` and `openbookqa`."""
    if "endings" in line:
        context = preprocess(line["activity_label"] + ": " + line["ctx_a"] + " " + line["ctx_b"].capitalize())
        return context, [preprocess(ending) for ending in line["endings"]], int(line["label"])
    if "goal" in line:
        return f"Question: {line['goal']}\nAnswer:", [line["sol1"], line["sol2"]], line["label"]
    if "question_stem" in line:
        return line["question_stem"], line["choices"]["text"], line["choices"]["label"].index(line["answerKey"].strip())
    if "question" in line:
        nested = line["question"] if isinstance(line["question"], dict) else None
        listed = nested["choices"] if nested else [{"text": t, "label": n} for t, n in zip(line["choices"]["text"], line["choices"]["label"])]
        labels = [choice["label"] for choice in listed]
        context = f"Question: {nested['stem'] if nested else line['question']}\nAnswer:"
        return context, [choice["text"] for choice in listed], labels.index(line["answerKey"])
    answer = line["answer"]
    return line["context"], line["choices"], int(answer) if str(answer).isdigit() else "ABC".index(answer)


def scored(name, tokenizer_name, make, most):
    cases = json.loads((HERE / "causal_tokenizers.json").read_text())["cases"]
    files = next(case["files"] for case in cases if case["name"] == tokenizer_name)
    with tempfile.TemporaryDirectory() as path:
        for file, content in files.items():
            (Path(path) / file).write_text(json.dumps(content))
        tokenizer = AutoTokenizer.from_pretrained(path)
    model = make(len(tokenizer))
    save_file(weights(model), HERE / f"choices-{name}.safetensors", {"format": "pt"})
    harness = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=1, max_length=most)
    questions, hits, hits_norm, cut = [], [], [], []
    for line in LINES:
        context, choices, answer = shown(line)
        asked = [Instance("loglikelihood", {}, (context, " " + choice), at) for at, choice in enumerate(choices)]
        sums = np.array([found[0] for found in harness.loglikelihood(asked, disable_tqdm=True)])
        hits.append(int(np.argmax(sums) == answer))
        hits_norm.append(int(np.argmax(sums / np.array([float(len(choice)) for choice in choices])) == answer))
        lengths = [sum(map(len, harness._encode_pair(context, " " + choice))) for choice in choices] if context else [0]
        cut.append(max(0, *(length - most - 1 for length in lengths)))
        questions.append({"log_likelihoods": sums.tolist()})
    print(name, sum(hits), sum(hits_norm), len(LINES), cut)
    assert sum(cut) > 0 and hits != hits_norm and 0 < sum(hits) < len(LINES)
    return {"name": name, "tokenizer": tokenizer_name, "config": written(model), "acc": float(np.mean(hits)),
            "acc_norm": float(np.mean(hits_norm)), "cut": cut, "questions": questions}


def main():
    logging.disable()
    llama = lambda vocab: causal(np.random.default_rng(111), "llama", vocab, 16, 2, 4, 2, 16, 40, tie_word_embeddings=True)
    small = lambda vocab: gpt2(np.random.default_rng(112), vocab, 12, 2, 3, 24, 48)
    models = [scored("llama", "Llama 3", llama, 40), scored("gpt2", "GPT-2", small, 48)]
    write_json("choices.json", {"versions": VERSIONS, "lines": [json.dumps(line, ensure_ascii=False) for line in LINES], "models": models})


if __name__ == "__main__":
    main()
