"""Makes tests/golden/folders/: small models of the BERT family as their makers saved them, and what `transformers` says of them.

    pip install torch transformers safetensors numpy
    python tests/golden/folders.py

    distilbert/    DistilBertForMaskedLM, safetensors
    old/           BertForPreTraining in half precision, pytorch_model.bin, `gamma` and `beta`, `position_ids`, decoder written out
    minilm/        BertModel without prefix or head, bfloat16, in two parts with an index
    legacy/        BertForMaskedLM saved before PyTorch 1.6's zip files
    code/          a pickle that would run a command
    double/        BertForMaskedLM in float64 with integer buffers, without `model_type`, with another epsilon of its norms
    wrapped/       a trainer's checkpoint: the weights of a compiled model under data parallelism, in a dictionary beside its optimizer
"""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, BertModel, DistilBertConfig, DistilBertForMaskedLM

from make import VERSIONS, write_json
from texts import vocabulary

HERE = Path(__file__).parent
FOLDERS = HERE / "folders"
VOCAB = vocabulary(cased=False)
IDS = [[2, 7, 9, 4, 3], [2, 11, 8, 3, 0]]
MASK = [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]


def drawn(model, seed, dtype):
    """Random parameters that are exact in `dtype`, held in float64."""
    rng = np.random.default_rng(seed)
    model = model.double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            draw = rng.normal(0, 0.3, tuple(parameter.shape)) + (1.0 if "norm.weight" in name.lower() else 0.0)
            parameter.copy_(torch.from_numpy(draw).to(dtype).double())
    return model


def folder(name, config, vocab=VOCAB):
    path = FOLDERS / name
    path.mkdir(parents=True)
    text = json.dumps(config, indent=1)
    (path / "config.json").write_text(text + "\n")
    (path / "vocab.txt").write_text("\n".join(vocab) + "\n")
    return path


def said(model, **more):
    with torch.no_grad():
        out = model(input_ids=torch.tensor(IDS), attention_mask=torch.tensor(MASK))
    kind = "logits" if hasattr(out, "logits") or hasattr(out, "prediction_logits") else "hidden"
    values = {"logits": getattr(out, "logits", getattr(out, "prediction_logits", None)), "hidden": getattr(out, "last_hidden_state", None)}
    return {"kind": kind, "values": values[kind].flatten().tolist()} | more


def bert_config():
    return BertConfig(vocab_size=len(VOCAB), hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
                      max_position_embeddings=12, attn_implementation="eager")


def main():
    shutil.rmtree(FOLDERS, ignore_errors=True)
    torch.manual_seed(0)
    cases = {}

    config = DistilBertConfig(vocab_size=len(VOCAB), dim=8, n_layers=2, n_heads=2, hidden_dim=16, max_position_embeddings=12,
                              attn_implementation="eager")
    model = drawn(DistilBertForMaskedLM(config), 1, torch.float32)
    path = folder("distilbert", config.to_diff_dict() | {"model_type": "distilbert"})
    save_file({n: p.float().contiguous() for n, p in model.named_parameters()}, path / "model.safetensors", {"format": "pt"})
    cases["distilbert"] = said(model)

    config = bert_config()
    model = drawn(BertForPreTraining(config), 2, torch.float16)
    path = folder("old", config.to_diff_dict() | {"model_type": "bert"})
    old = lambda n: n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    state = {old(n): p.detach().half() for n, p in model.named_parameters()}
    state["bert.embeddings.position_ids"] = torch.arange(12)[None]
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
    torch.save(state, path / "pytorch_model.bin")
    cases["old"] = said(model)

    model = drawn(BertModel(config), 3, torch.bfloat16)
    path = folder("minilm", config.to_diff_dict() | {"model_type": "bert"})
    state = {n: p.detach().bfloat16().contiguous() for n, p in model.named_parameters()}
    state["embeddings.position_ids"] = torch.arange(12)[None].contiguous()
    names, weight_map = sorted(state), {}
    for part, chosen in enumerate([names[:20], names[20:]], 1):
        file = f"model-{part:05}-of-00002.safetensors"
        save_file({n: state[n] for n in chosen}, path / file, {"format": "pt"})
        weight_map |= dict.fromkeys(chosen, file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}) + "\n")
    cases["minilm"] = said(model)

    model = drawn(BertForMaskedLM(config), 4, torch.float32)
    path = folder("legacy", config.to_diff_dict() | {"model_type": "bert"})
    torch.save({n: p.detach().float() for n, p in model.named_parameters()}, path / "pytorch_model.bin",
               _use_new_zipfile_serialization=False)
    cases["legacy"] = said(model)

    few = VOCAB[:16]
    small = BertConfig(vocab_size=len(few), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
                       max_position_embeddings=6, layer_norm_eps=1e-3, attn_implementation="eager")
    model = drawn(BertForMaskedLM(small), 5, torch.float32)
    keys = ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings",
            "type_vocab_size", "hidden_act", "layer_norm_eps"]
    path = folder("double", {key: getattr(small, key) for key in keys}, few)
    state = {n: p.detach().contiguous() for n, p in model.named_parameters()}
    state["bert.embeddings.position_ids"] = torch.arange(6)[None].contiguous()
    state["bert.embeddings.token_type_ids"] = torch.zeros(1, 6, dtype=torch.int64)
    save_file(state, path / "model.safetensors", {"format": "pt"})
    cases["double"] = said(model)

    model = drawn(BertForMaskedLM(small), 6, torch.float16)
    path = folder("wrapped", small.to_diff_dict() | {"model_type": "bert"}, few)
    state = {"module._orig_mod." + n: p.half() for n, p in model.state_dict().items()}
    moments = {number: {"step": torch.tensor(3), "exp_avg": torch.zeros(2)} for number in range(2)}
    torch.save({"model_state_dict": state, "epoch": 3, "optimizer": {"state": moments}}, path / "pytorch_model.bin")
    cases["wrapped"] = said(model)

    class Code:
        def __reduce__(self):
            return os.system, ("echo this pickle was run > pickle-was-run",)

    path = folder("code", config.to_diff_dict() | {"model_type": "bert"})
    (path / "pytorch_model.bin").write_bytes(pickle.dumps({"bert.embeddings.word_embeddings.weight": Code()}, protocol=2))

    write_json("folders.json", {"versions": VERSIONS, "ids": IDS, "mask": MASK, "cases": [{"name": n} | c for n, c in cases.items()]})


if __name__ == "__main__":
    main()
