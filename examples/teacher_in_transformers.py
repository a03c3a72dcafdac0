"""Any model of `transformers` 5 over the same vocabulary as a run's teacher: writes a cache of its answers for upstill.

    upstill data dump RUN.toml --out ASKED
    python teacher_in_transformers.py MODEL ASKED CACHE --top-k 12
    upstill train RUN.toml --set teacher.from=CACHE
"""

import argparse, json, pathlib, zlib

import numpy as np, torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM

parser = argparse.ArgumentParser()
parser.add_argument("model"), parser.add_argument("asked", type=pathlib.Path), parser.add_argument("cache", type=pathlib.Path)
parser.add_argument("--top-k", type=int, default=12), parser.add_argument("--temperature", type=float, default=2.0)
args = parser.parse_args()
model = AutoModelForMaskedLM.from_pretrained(args.model).eval()
header = json.loads((args.asked / "asked.json").read_text())
header |= {"teacher": args.model, "kind": "top-k", "count": args.top_k, "temperature": args.temperature}
text = json.dumps(header, indent=2).encode()
(args.cache / "blocks").mkdir(parents=True)
(args.cache / "cache.json").write_bytes(text)
v, id_bytes = header["vocabulary"], 1 if header["vocabulary"] <= 2**8 else 2 if header["vocabulary"] <= 2**16 else 3

for path in sorted(args.asked.glob("*.safetensors")):
    batch = {name: tensor.long() for name, tensor in load_file(path).items()}
    said = []
    for rows in torch.arange(len(batch["used"])).split(32):
        ids, segments, slots, used = (batch[name][rows] for name in ("input_ids", "segments", "slots", "used"))
        sees = (segments[:, :, None] == segments[:, None, :])[:, None]  # a token sees those of its own sentence
        with torch.no_grad():
            logits = model(ids, attention_mask=sees, position_ids=batch["positions"][rows]).logits[:, :, :v]
        asked = torch.arange(slots.shape[1]) < used[:, None]
        logits = logits.gather(1, slots[:, :, None].expand(-1, -1, v))[asked].double()
        log_r, log_sum = torch.log_softmax(logits / args.temperature, 1), torch.logsumexp(logits, 1)
        top, kept = log_r.topk(args.top_k)
        rest = log_r.exp().scatter(1, kept, 0.0).sum(1)
        label_loss = log_sum - logits.gather(1, batch["labels"][rows][asked][:, None])[:, 0]
        said.append((log_sum, -(log_r.exp() * log_r).sum(1), label_loss, rest, kept, top.exp()))
    log_sum, entropy, label_loss, rest, kept, shares = (torch.cat(part).numpy() for part in zip(*said))
    arrays = [batch["used"].numpy().astype("<u2"), log_sum.astype("<f4"), entropy.astype("<f2"), label_loss.astype("<f2"),
              rest.astype("<f2"), kept.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :id_bytes], shares.astype("<f2")]
    block = b"answers1" + zlib.crc32(text).to_bytes(4, "little") + int(path.stem).to_bytes(8, "little")
    block += b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    (args.cache / "blocks" / f"{path.stem}.answers").write_bytes(block + zlib.crc32(block).to_bytes(4, "little"))
