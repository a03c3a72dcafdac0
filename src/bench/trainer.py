"""One pass of `transformers`' Trainer over sentences, as `run_mlm.py --line_by_line` trains: a sentence a row, rows padded to the
longest of their batch, the head on every position. Reads request.json and a tokenizer from the folder that is its argument, and
prints steps, seconds and the held-out loss."""

import json
import sys
import time
from pathlib import Path

from transformers import (
    BertConfig, BertForMaskedLM, DataCollatorForLanguageModeling, PreTrainedTokenizerFast, Trainer, TrainingArguments, set_seed,
)

folder = Path(sys.argv[1])
request = json.loads((folder / "request.json").read_text())
special = {f"{name}_token": f"[{name.upper()}]" for name in ["pad", "unk", "cls", "sep", "mask"]}
tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **special)
cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
rows = lambda name: [{"input_ids": [cls, *ids, sep], "special_tokens_mask": [1, *[0] * len(ids), 1]} for ids in request[name]]

set_seed(1)
d = request["hidden"]
config = BertConfig(
    vocab_size=request["vocab"], hidden_size=d, num_hidden_layers=request["layers"], num_attention_heads=max(1, d // 64),
    intermediate_size=4 * d, max_position_embeddings=request["length"],
)
settings = TrainingArguments(
    output_dir=str(folder / "out"), num_train_epochs=1, per_device_train_batch_size=request["batch"],
    per_device_eval_batch_size=request["batch"], learning_rate=1e-3, warmup_steps=0.05, lr_scheduler_type="linear",
    weight_decay=0.0, max_grad_norm=5.0, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=not request["on_gpu"], seed=1,
)
trainer = Trainer(
    BertForMaskedLM(config), settings, train_dataset=rows("train"), eval_dataset=rows("held_out"),
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
)
started = time.perf_counter()
trainer.train()
seconds = time.perf_counter() - started
print(json.dumps({"steps": trainer.state.global_step, "seconds": seconds, "held_out_loss": trainer.evaluate()["eval_loss"]}))
