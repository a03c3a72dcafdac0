"""PyTorch's side of `upstill bench`: for each line of standard input does one measurement, and answers with its seconds and peak
memory in bytes, or with what is wrong. After `time` or `memory`: `loss eager 1024 30522`, `head eager 1024 128 30522`, `step eager {...}`, `lstm eager 64 64 300 600`,
`layer eager rms-norm forward 2 1024 256 65`; instead of
`eager` also `compiled`, for a step `trimmed` and `plain`, and for the first two `liger`. Arguments: `cpu` or `cuda`, the precision of products, how many steps are timed
together, and how many processes share the rows of a step (DistributedDataParallel over gloo; one unless given)."""

import atexit
import ctypes
import json
import os
import shutil
import sys
import tempfile
import time

RANKS = int(sys.argv[4]) if len(sys.argv) > 4 else 1
# The others are started before PyTorch starts its threads, and read what the first one passes on.
RANK, others, meeting = 0, [], tempfile.mkdtemp() if RANKS > 1 else ""
for rank in range(1, RANKS):
    reads, writes = os.pipe()
    if os.fork() == 0:
        RANK, others, sys.stdin, sys.stdout = rank, [], os.fdopen(reads), open(os.devnull, "w")
        os.close(writes)
        break
    os.close(reads)
    others.append(os.fdopen(writes, "w"))

import torch
from torch import nn

if RANKS > 1:
    if RANK == 0:
        atexit.register(shutil.rmtree, meeting, True)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}/meeting", rank=RANK, world_size=RANKS)

DEVICE, PRECISION, STEPS = sys.argv[1], sys.argv[2], int(sys.argv[3])
ON_GPU = DEVICE == "cuda"
if ON_GPU and not torch.cuda.is_available():
    sys.exit("no GPU")
torch.set_default_device(DEVICE)
if ON_GPU:
    # Products of f32 go through TF32 on both sides.
    torch.set_float32_matmul_precision("high")
LOW = {"bf16": torch.bfloat16, "f16": torch.float16}.get(PRECISION)
autocast = lambda: torch.autocast(DEVICE, LOW, enabled=LOW is not None)
from torch.nn.functional import cross_entropy, gelu, kl_div, log_softmax, scaled_dot_product_attention, silu


def dwt_loss(student, teacher, labels, reduction="sum"):
    hard = cross_entropy(student, labels, reduction=reduction)
    per = "batchmean" if reduction == "mean" else reduction
    soft = kl_div(log_softmax(student / 2, 1), log_softmax(teacher / 2, 1), reduction=per, log_target=True)
    return hard + 4 * soft


def head_and_loss(hidden, words, bias, teacher_hidden, teacher_words, teacher_bias, labels):
    with torch.no_grad():
        teacher = teacher_hidden @ teacher_words.T + teacher_bias
    return dwt_loss(hidden @ words.T + bias, teacher, labels)


def of_liger(what):
    """The same of Liger's kernels: cross-entropy, and the divergence, which for whole logits takes log-probabilities and with the
    head has no bias and goes through the head a second time."""
    from liger_kernel.transformers import LigerCrossEntropyLoss, LigerFusedLinearCrossEntropyLoss, LigerFusedLinearJSD, LigerKLDIVLoss

    def whole(student, teacher, labels):
        soft = LigerKLDIVLoss(reduction="sum", log_target=True)(log_softmax(student / 2, 1), log_softmax(teacher / 2, 1))
        # Last, as it leaves the gradient where the logits were.
        return 4 * soft + LigerCrossEntropyLoss(reduction="sum")(student, labels)

    def head(hidden, words, bias, teacher_hidden, teacher_words, teacher_bias, labels):
        soft = LigerFusedLinearJSD(jsd_beta=0.0, temperature=2.0)(hidden, words, teacher_hidden, teacher_words, None)
        hard = LigerFusedLinearCrossEntropyLoss(reduction="sum")(words, hidden, labels, bias)
        return 4 * len(labels) * soft + hard

    return whole if what == "loss" else head


class Layer(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.norms, self.drop = nn.ModuleList([nn.LayerNorm(d, 1e-12) for _ in range(2)]), nn.Dropout(0.1)

    def forward(self, x, mask, slots=None):
        b, s, d = x.shape
        q, k, v = self.qkv(x).view(b, s, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        context = scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=0.1 if self.training else 0.0)
        context = context.transpose(1, 2).reshape(b, s, d)
        if slots is not None:
            context, x = context.flatten(0, 1)[slots], x.flatten(0, 1)[slots]
        x = self.norms[0](x + self.drop(self.out(context)))
        return self.norms[1](x + self.drop(self.down(gelu(self.up(x)))))


class Bert(nn.Module):
    """BERT as fast as plain PyTorch makes it: one product for query, key and value, SDPA, the head on masked slots only; `trimmed`, the
    last layer after its attention too, as upstill has it."""

    def __init__(self, layers, d, vocab, length, trimmed):
        super().__init__()
        self.trimmed = trimmed
        self.words, self.places, self.types = nn.Embedding(vocab, d), nn.Embedding(length, d), nn.Embedding(2, d)
        self.norm, self.drop = nn.LayerNorm(d, 1e-12), nn.Dropout(0.1)
        self.layers = nn.ModuleList([Layer(d, d // 64) for _ in range(layers)])
        self.dense, self.head_norm, self.bias = nn.Linear(d, d), nn.LayerNorm(d, 1e-12), nn.Parameter(torch.zeros(vocab))

    def forward(self, ids, positions, mask, slots):
        x = self.drop(self.norm(self.words(ids) + self.places(positions) + self.types.weight[0]))
        for layer in self.layers[:-1]:
            x = layer(x, mask)
        x = self.layers[-1](x, mask, slots) if self.trimmed else self.layers[-1](x, mask).flatten(0, 1)[slots]
        hidden = self.head_norm(gelu(self.dense(x)))
        return hidden @ self.words.weight.T + self.bias


class ModernLayer(nn.Module):
    def __init__(self, d, heads, is_first):
        super().__init__()
        plain = lambda a, b: nn.Linear(a, b, bias=False)
        self.heads, self.qkv, self.out = heads, plain(d, 3 * d), plain(d, d)
        self.up, self.down = plain(d, 3 * d), plain(d * 3 // 2, d)
        self.norms = nn.ModuleList([nn.Identity() if is_first else modern_norm(d), modern_norm(d)])

    def forward(self, x, mask, turn, slots=None):
        b, s, d = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(b, s, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        context = scaled_dot_product_attention(turned(q, turn).to(v.dtype), turned(k, turn).to(v.dtype), v, attn_mask=mask)
        context = context.transpose(1, 2).reshape(b, s, d)
        if slots is not None:
            context, x = context.flatten(0, 1)[slots], x.flatten(0, 1)[slots]
        x = x + self.out(context)
        wide, gate = self.up(self.norms[1](x)).chunk(2, -1)
        return x + self.down(gelu(wide) * gate)


def turned(x, turn):
    half = x.shape[-1] // 2
    return x * turn[0] + torch.cat((-x[..., half:], x[..., :half]), -1) * turn[1]


def modern_norm(d):
    return nn.LayerNorm(d, 1e-5, bias=False)


class ModernBert(nn.Module):
    """ModernBERT likewise; who sees whom and the rotary angles are made once for all steps."""

    def __init__(self, layers, d, vocab, _, trimmed):
        super().__init__()
        self.trimmed = trimmed
        self.words, self.norm, self.last_norm = nn.Embedding(vocab, d), modern_norm(d), modern_norm(d)
        self.layers = nn.ModuleList([ModernLayer(d, d // 64, layer == 0) for layer in range(layers)])
        self.dense, self.head_norm, self.bias = nn.Linear(d, d, bias=False), modern_norm(d), nn.Parameter(torch.zeros(vocab))

    def forward(self, ids, reaches, slots):
        x = self.norm(self.words(ids))
        for i, layer in enumerate(self.layers):
            trims = self.trimmed and i + 1 == len(self.layers)
            x = layer(x, *reaches[i % len(reaches)], slots if trims else None)
        x = self.last_norm(x if self.trimmed else x.flatten(0, 1)[slots])
        return self.head_norm(gelu(self.dense(x))) @ self.words.weight.T + self.bias


def angles(positions, theta):
    """Cosines and sines of heads of 64."""
    frequencies = theta ** -(torch.arange(0, 64, 2).float() / 64)
    angles = (positions.float()[:, None, :, None] * frequencies).repeat(1, 1, 1, 2)
    return angles.cos(), angles.sin()


def modern_reaches(positions, mask, window, beyond=0):
    """Of a global layer and the two local ones after it: who sees whom, and cosines and sines. Without a window all are
    global. A decoder's window ends one position sooner, `beyond`."""

    everywhere = (mask, angles(positions, 160_000.0))
    if window is None:
        return [everywhere]
    near = (positions[:, :, None] - positions[:, None, :]).abs() <= window // 2 - beyond
    nearby = (mask & near[:, None], angles(positions, 10_000.0))
    return [everywhere, nearby, nearby]


class LlamaLayer(nn.Module):
    def __init__(self, d, f, heads):
        super().__init__()
        plain = lambda a, b: nn.Linear(a, b, bias=False)
        self.heads, self.qkv, self.out = heads, plain(d, 3 * d), plain(d, d)
        self.up, self.down = plain(d, 2 * f), plain(f, d)
        self.norms = nn.ModuleList([nn.RMSNorm(d, 1e-6) for _ in range(2)])

    def forward(self, x, mask, turn, slots=None):
        b, s, d = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(b, s, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        context = scaled_dot_product_attention(turned(q, turn).to(v.dtype), turned(k, turn).to(v.dtype), v, attn_mask=mask)
        context = context.transpose(1, 2).reshape(b, s, d)
        if slots is not None:
            context, x = context.flatten(0, 1)[slots], x.flatten(0, 1)[slots]
        x = x + self.out(context)
        gate, wide = self.up(self.norms[1](x)).chunk(2, -1)
        return x + self.down(silu(gate) * wide)


class Llama(nn.Module):
    """Llama likewise: query, key and value in one product, gate and up in another."""

    def __init__(self, layers, d, f, vocab, trimmed):
        super().__init__()
        self.trimmed = trimmed
        self.words, self.last_norm = nn.Embedding(vocab, d), nn.RMSNorm(d, 1e-6)
        self.layers = nn.ModuleList([LlamaLayer(d, f, d // 64) for _ in range(layers)])

    def forward(self, ids, mask, turn, slots):
        x = self.words(ids)
        for i, layer in enumerate(self.layers):
            x = layer(x, mask, turn, slots if self.trimmed and i + 1 == len(self.layers) else None)
        return self.last_norm(x if self.trimmed else x.flatten(0, 1)[slots]) @ self.words.weight.T


class Gpt2Layer(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down, self.drop = nn.Linear(d, 4 * d), nn.Linear(4 * d, d), nn.Dropout(0.1)
        self.norms = nn.ModuleList([nn.LayerNorm(d, 1e-5) for _ in range(2)])

    def forward(self, x, mask, slots=None):
        b, s, d = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(b, s, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        context = scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=0.1 if self.training else 0.0)
        context = context.transpose(1, 2).reshape(b, s, d)
        if slots is not None:
            context, x = context.flatten(0, 1)[slots], x.flatten(0, 1)[slots]
        x = x + self.drop(self.out(context))
        return x + self.drop(self.down(gelu(self.up(self.norms[1](x)), approximate="tanh")))


class Gpt2(nn.Module):
    """GPT-2 likewise."""

    def __init__(self, layers, d, vocab, length, trimmed):
        super().__init__()
        self.trimmed, self.drop = trimmed, nn.Dropout(0.1)
        self.words, self.places, self.last_norm = nn.Embedding(vocab, d), nn.Embedding(length, d), nn.LayerNorm(d, 1e-5)
        self.layers = nn.ModuleList([Gpt2Layer(d, d // 64) for _ in range(layers)])

    def forward(self, ids, positions, mask, slots):
        x = self.drop(self.words(ids) + self.places(positions))
        for i, layer in enumerate(self.layers):
            x = layer(x, mask, slots if self.trimmed and i + 1 == len(self.layers) else None)
        return self.last_norm(x if self.trimmed else x.flatten(0, 1)[slots]) @ self.words.weight.T


def finish(student, optimizer, loss):
    loss.backward()
    nn.utils.clip_grad_norm_(student.parameters(), 5.0)
    optimizer.step()
    optimizer.zero_grad()


def best_step(how, size):
    """Packed rows as upstill has them."""
    ids, positions, segments = (torch.tensor(size[name]).view(-1, size["length"]) for name in ["ids", "positions", "segments"])
    slots, labels = torch.tensor(size["slots"]), torch.tensor(size["labels"])
    if RANKS > 1:
        rows = slice(RANK * len(ids) // RANKS, (RANK + 1) * len(ids) // RANKS)
        own = (slots >= rows.start * size["length"]) & (slots < rows.stop * size["length"])
        slots, labels = slots[own] - rows.start * size["length"], labels[own]
        ids, positions, segments = ids[rows], positions[rows], segments[rows]
    mask = (segments[:, :, None] == segments[:, None, :])[:, None]
    trimmed, sizes = how == "trimmed", [size["hidden"], size["vocab"], size["length"]]
    order = torch.ones(size["length"], size["length"], dtype=torch.bool).tril()
    if size["family"] == "bert":
        inputs, make = [ids, positions, mask, slots], lambda layers: Bert(layers, *sizes, trimmed)
    elif size["family"] == "modernbert":
        inputs, make = [ids, modern_reaches(positions, mask, size["window"]), slots], lambda layers: ModernBert(layers, *sizes, trimmed)
    elif size["family"] == "modernbert-decoder":
        reaches = modern_reaches(positions, mask & order, size["window"], 1)
        inputs, make = [ids, reaches, slots], lambda layers: ModernBert(layers, *sizes, trimmed)
    elif size["family"] == "gpt2":
        inputs, make = [ids, positions, mask & order, slots], lambda layers: Gpt2(layers, *sizes, trimmed)
    else:
        inputs = [ids, mask & order, angles(positions, 10_000.0), slots]
        make = lambda layers: Llama(layers, size["hidden"], size["intermediate"], size["vocab"], trimmed)
    student, teacher = make(size["layers"]).train(), make(size["teacher_layers"]).eval().requires_grad_(False)
    optimizer = torch.optim.Adam(student.parameters(), fused=True)
    student = nn.parallel.DistributedDataParallel(student) if RANKS > 1 else student

    def losses():
        with autocast():
            with torch.no_grad():
                signal = teacher(*inputs)
            return dwt_loss(student(*inputs), signal, labels, "mean")

    losses = torch.compile(losses) if how in ["compiled", "trimmed"] else losses
    return lambda: finish(student, optimizer, losses())


def plain_step(size):
    """`BertForMaskedLM`, `ModernBertForMaskedLM`, its decoder, `LlamaForCausalLM` or `GPT2LMHeadModel` as most write it: a sentence a
    row, padded to the longest, the head on every position. `labels` stand where they are predicted."""
    from transformers import (
        BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, ModernBertConfig,
        ModernBertDecoderConfig, ModernBertDecoderForCausalLM, ModernBertForMaskedLM,
    )

    cut = lambda name: torch.tensor(size[name]).view(-1, size["length"])
    ids, segments = cut("ids"), cut("segments")
    answers = torch.full((ids.numel(),), -100)
    answers[torch.tensor(size["slots"])] = torch.tensor(size["labels"])
    answers = answers.view_as(ids)
    places = [segments[row] == segment for row in range(len(ids)) for segment in range(1, int(segments[row].max()) + 1)]
    rows = [row for row in range(len(ids)) for _ in range(int(segments[row].max()))]
    pad = lambda table, filler: nn.utils.rnn.pad_sequence([table[row][at] for row, at in zip(rows, places)], True, filler)
    ids, labels, seen = pad(ids, 0), pad(answers, -100), pad(torch.ones_like(ids), 0)

    def make(layers):
        d = size["hidden"]
        names = ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"]
        sizes = dict(zip(names, [size["vocab"], d, layers, d // 64, size["length"]]), pad_token_id=0)
        if size["family"] == "bert":
            return BertForMaskedLM(BertConfig(**sizes, intermediate_size=4 * d))
        if size["family"] == "gpt2":
            return GPT2LMHeadModel(GPT2Config(**sizes))
        if size["family"] == "llama":
            return LlamaForCausalLM(LlamaConfig(**sizes, intermediate_size=size["intermediate"], tie_word_embeddings=True))
        special = dict(zip(["bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id"], [2, 2, 3, 3]))
        window = {"global_attn_every_n_layers": 1} if size["window"] is None else {"local_attention": size["window"]}
        if size["family"] == "modernbert-decoder":
            return ModernBertDecoderForCausalLM(ModernBertDecoderConfig(**sizes, **special, **window, intermediate_size=d * 3 // 2))
        return ModernBertForMaskedLM(ModernBertConfig(**sizes, **special, **window, intermediate_size=d * 3 // 2))

    student, teacher = make(size["layers"]).train(), make(size["teacher_layers"]).eval()
    optimizer = torch.optim.Adam(student.parameters())

    def step():
        with autocast():
            with torch.no_grad():
                signal = teacher(input_ids=ids, attention_mask=seen).logits
            logits = student(input_ids=ids, attention_mask=seen).logits
            is_masked = labels != -100
            hard = cross_entropy(logits.view(-1, size["vocab"]), labels.view(-1))
            inputs = log_softmax(logits[is_masked] / 2, 1), log_softmax(signal[is_masked] / 2, 1)
            soft = kl_div(*inputs, reduction="batchmean", log_target=True)
        finish(student, optimizer, hard + 4 * soft)

    return step


def loss_step(what, how, sizes):
    m, v = sizes[0], sizes[-1]
    labels = torch.randint(0, v, (m,))
    if what == "lstm":
        t, b, w, h = sizes
        lstm = nn.LSTM(w, h, bidirectional=True)
        inputs = [torch.rand(t, b, w, requires_grad=True), *lstm.parameters()]
        function = lambda x, *_: lstm(x)[0].max(0).values.sum()
    elif what == "loss":
        inputs = [torch.rand(m, v, requires_grad=True), torch.rand(m, v), labels]
        function = dwt_loss
    else:
        d = sizes[1]
        side = lambda tracked: [torch.rand(*shape, requires_grad=tracked) for shape in [(m, d), (v, d), (v,)]]
        inputs = [*side(True), *side(False), labels]
        function = head_and_loss
    function = torch.compile(function) if how == "compiled" else of_liger(what) if how == "liger" else function

    def step():
        for tensor in inputs:
            tensor.grad = None
        function(*inputs).backward()

    return step


def layer_step(how, name, way, *sizes):
    """An operation of a layer over rows of one text each, forward, or all its gradients alone."""
    rows, length, d, window = map(int, sizes)
    n, heads, turn, at = rows * length, d // 64, angles(torch.arange(length)[None], 10_000.0), torch.arange(length)
    apart = lambda x: x.view(rows, length, -1, 64).transpose(1, 2)
    near = {"attn_mask": (at[:, None] - at).abs() < window}

    def attention(query, key, value, **seen):
        query, key, value = turned(apart(query), turn), turned(apart(key), turn), apart(value)
        return scaled_dot_product_attention(query, key, value, **seen).transpose(1, 2).reshape(n, d)

    shapes, function = {
        "layer-norm": ([(n, d), (d,)], lambda x, scale: nn.functional.layer_norm(x, (d,), scale)),
        "rms-norm": ([(n, d), (d,)], lambda x, scale: nn.functional.rms_norm(x, (d,), scale, 1e-6)),
        "geglu": ([(n, 8 * d)], lambda x: gelu(x[:, : 4 * d]) * x[:, 4 * d :]),
        "swiglu": ([(n, 4 * d)] * 2, lambda a, b: silu(a) * b),
        "tanh-gelu": ([(n, 4 * d)], lambda x: gelu(x, approximate="tanh")),
        "rotary": ([(n, 3 * d)], lambda x: attention(*x.chunk(3, 1))),
        "rotary-window": ([(n, 3 * d)], lambda x: attention(*x.chunk(3, 1), **near)),
        "causal-shared": ([(n, d), (n, d // 2), (n, d // 2)], lambda *x: attention(*x, is_causal=True, enable_gqa=True)),
    }[name]
    if how == "compiled":
        from torch._functorch import config

        # What the forward pass kept is read more than once.
        config.donated_buffer = False
        function = torch.compile(function)
    inputs = [torch.rand(*shape, requires_grad=True) for shape in shapes]
    if way == "forward":
        return lambda: function(*inputs)
    out = function(*inputs)
    # From the sum, as upstill's go: burn has no other way to begin.
    return lambda: torch.autograd.grad(out.sum(), inputs, retain_graph=True)


def prepare(what, how, rest):
    if what == "layer":
        return layer_step(how, *rest.split())
    if what == "step":
        size = json.loads(rest)
        return plain_step(size) if how == "plain" else best_step(how, size)
    return loss_step(what, how, [int(size) for size in rest.split()])


def status(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1]) * 1024


def timed(step):
    """Seconds a step, and memory: on the CPU over what was held before, on a GPU all that was allocated at once."""
    if ON_GPU:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    else:
        open("/proc/self/clear_refs", "w").write("5")
        before = status("VmRSS:")
    started = time.perf_counter()
    for _ in range(STEPS):
        step()
    if ON_GPU:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - started) / STEPS
    return seconds, torch.cuda.max_memory_allocated() if ON_GPU else max(0, status("VmHWM:") - before)


steps = {}
place = torch.cuda.get_device_name() if ON_GPU else f"{torch.get_num_threads()} threads"
print("ready", torch.__version__, place, flush=True)
for request in sys.stdin:
    for other in others:
        print(request, end="", file=other, flush=True)
    try:
        what, line = request.split(" ", 1)
        if line not in steps:
            steps[line] = prepare(*line.strip().split(" ", 2))
            steps[line]()
        if what == "memory" and not ON_GPU:
            # What the allocator has kept for later counts when it is taken again.
            ctypes.CDLL(None).malloc_trim(0)
        print(*timed(steps[line]), flush=True)
    except Exception as problem:
        print("failed", str(problem).strip().splitlines()[0][:200], flush=True)
