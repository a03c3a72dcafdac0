"""Makes the goldens of tests/golden/gguf.rs: small GGUF files of Llama's family, and what `transformers` reads in them.

    pip install torch transformers accelerate tokenizers gguf numpy
    python tests/golden/gguf_files.py

Models are random (heads of Qwen3 128 wide, as `transformers` takes them to be whatever the file says); files are written as llama.cpp's
converter writes them (rows of queries and keys of "llama" in its order, quantised by the `gguf` package), with the tokenizers of
causal_tokenizers.py in its keys. Logits are of `transformers`' own reading of the file, worked out in
float64; ids are of the tokenizer that went in.
"""

import json
import logging
import tempfile

import numpy as np
import torch
from gguf import GGMLQuantizationType as Q, GGUFWriter
from gguf.quants import dequantize, quantize
from transformers import AutoModelForCausalLM

from causal_tokenizers import ALL, LLAMA_JSON, QWEN_JSON, SMOL_JSON, ids, folder, llama, qwen, smol
from llama import causal
from make import HERE, VERSIONS, write_json

PARTS = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


SCALING = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def renamed(name):
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    if name in whole:
        return whole[name]
    _, _, layer, part = name.split(".", 3)
    part, end = part.rsplit(".", 1)
    return f"blk.{layer}.{PARTS[part]}.{end}"


def neighbours(rows, heads):
    """llama.cpp's `LlamaModel.permute`."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def divisors(config):
    """llama.cpp's `LlamaModel.generate_extra_tensors`."""
    rope, found = config.rope_parameters, []
    old, low, high = rope["original_max_position_embeddings"], rope["low_freq_factor"], rope["high_freq_factor"]
    for wave in 2 * np.pi * rope["rope_theta"] ** (np.arange(0, config.head_dim, 2) / config.head_dim):
        smooth = (old / wave - low) / (high - low)
        found.append(1 if wave < old / high else rope["factor"] if wave > old / low else 1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(found, dtype=np.float32)


def tokenizer_keys(writer, file, config, pre, add_bos=None, padded=0):
    vocab = dict(file["model"]["vocab"]) | {token["content"]: token["id"] for token in file["added_tokens"]}
    kinds = {token["content"]: 3 if token["special"] else 4 for token in file["added_tokens"]}
    tokens = sorted(vocab, key=vocab.get)
    kinds = [kinds.get(token, 1) for token in tokens] + [5] * padded
    tokens += [f"[PAD{len(vocab) + at}]" for at in range(padded)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in file["model"]["merges"]])
    for key, add in [("bos_token", writer.add_bos_token_id), ("eos_token", writer.add_eos_token_id), ("pad_token", writer.add_pad_token_id),
                     ("unk_token", writer.add_unk_token_id)]:
        if config.get(key):
            add(vocab[config[key]])
    if add_bos is not None:
        writer.add_add_bos_token(add_bos)
    writer.add_chat_template("{{ messages }}")


def written(path, architecture, model, kinds, tokenizer, **more):
    config, writer = model.config, GGUFWriter(path, architecture)
    writer.add_name("random")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if architecture == "llama":
        writer.add_rope_dimension_count(config.head_dim)
    else:
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    tokenizer_keys(writer, *tokenizer, **more)
    if config.rope_parameters["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", divisors(config))
    for name, tensor in model.named_parameters():
        values = tensor.detach().float().numpy()
        if architecture == "llama" and ".q_proj" in name:
            values = neighbours(values, config.num_attention_heads)
        if architecture == "llama" and ".k_proj" in name:
            values = neighbours(values, config.num_key_value_heads)
        kind = Q.F32 if values.ndim == 1 else next(kind for part, kind in kinds.items() if part in name)
        writer.add_tensor(renamed(name), quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def case(rng, name, architecture, sizes, kinds, tokenizer, files, padded=0, add_bos=None, **more):
    vocab = len(ids_of(tokenizer[0])) + padded
    model = causal(rng, "llama" if architecture == "llama" else "qwen3", vocab, *sizes, **more)
    path = HERE / f"gguf-{name}.gguf"
    written(path, architecture, model, kinds, tokenizer, padded=padded, add_bos=add_bos)
    read = AutoModelForCausalLM.from_pretrained(HERE, gguf_file=path.name, dtype=torch.float32).double().eval()
    for (own, theirs), parameter in zip(model.named_parameters(), read.parameters()):
        kind = Q.F32 if theirs.ndim == 1 else next(kind for part, kind in kinds.items() if part in own)
        expected = dequantize(quantize(theirs.detach().float().numpy(), kind), kind)
        # Of rows in another order other blocks are not made: a block lies within a row.
        assert np.array_equal(parameter.detach().float().numpy(), expected.reshape(theirs.shape)), own
    if "scaling" in more:
        # `transformers` passes over the table of divisors.
        read.model.rotary_emb = model.model.rotary_emb
    row = rng.integers(0, vocab - padded, 40).tolist()
    with torch.no_grad():
        logits = read(torch.tensor([row])).logits[0, [0, 4, 39]]
        prompt = row[:3]
        greedy = read.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False, eos_token_id=vocab + 1, pad_token_id=0)[0, 3:].tolist()
    found = ids(files)
    print(f"{name}: {path.stat().st_size} bytes, logits up to {logits.abs().max():.2f}, {greedy}")
    return {"name": name, "row": row, "at": [0, 4, 39], "logits": [f"{x:.7g}" for x in logits.flatten().tolist()], "prompt": prompt, "greedy": greedy,
            "ids": found["ids"], "opened": found["opened"]}


def ids_of(file):
    return dict(file["model"]["vocab"]) | {token["content"]: token["id"] for token in file["added_tokens"]}


def main():
    logging.disable()
    rng = np.random.default_rng(26)
    whole = {"tokenizer_class": "PreTrainedTokenizerFast"}
    cases = [
        case(rng, "smol", "llama", (64, 2, 4, 2, 96, 64, 100000.0), {"embed": Q.Q8_0, "v_proj": Q.Q4_0, "": Q.Q4_1},
             (SMOL_JSON, smol(), "smollm"), folder(SMOL_JSON, smol(**whole), "llama"), add_bos=False, rms_norm_eps=1e-5, tie_word_embeddings=True),
        case(rng, "llama3", "llama", (32, 1, 2, 2, 64, 64, 500000.0), {"lm_head": Q.Q8_0, "mlp": Q.BF16, "": Q.F16},
             (LLAMA_JSON, llama(), "llama-bpe"), folder(LLAMA_JSON, llama(**whole), "llama"), tie_word_embeddings=False, scaling=SCALING),
        case(rng, "qwen3", "qwen3", (32, 1, 2, 1, 64, 64, 1000000.0), {"embed": Q.Q8_0, "mlp": Q.Q4_0, "": Q.F16},
             (QWEN_JSON, qwen(), "qwen2"), folder(QWEN_JSON, qwen(**whole), "qwen3"), padded=10, head_dim=128, tie_word_embeddings=True),
    ]
    for made in cases:
        made["logits"] = [float(x) for x in made["logits"]]
    (HERE / "gguf.json").write_text(json.dumps({"versions": VERSIONS, "texts": ALL, "cases": cases}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
