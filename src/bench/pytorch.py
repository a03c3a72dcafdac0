"""PyTorch's side of `upstill bench`: for each line of standard input does one measurement, and answers with its seconds
and peak memory in bytes, or with what is wrong. `loss eager 1024 30522`, `head eager 1024 128 30522`, or `compiled`;
`lstm eager 64 64 300 600`."""

import sys
import time

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax


def dwt_loss(student, teacher, labels):
    hard = cross_entropy(student, labels, reduction="sum")
    soft = kl_div(log_softmax(student / 2, 1), log_softmax(teacher / 2, 1), reduction="sum", log_target=True)
    return hard + 4 * soft


def head_and_loss(hidden, words, bias, teacher_hidden, teacher_words, teacher_bias, labels):
    with torch.no_grad():
        teacher = teacher_hidden @ teacher_words.T + teacher_bias
    return dwt_loss(hidden @ words.T + bias, teacher, labels)


def status(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1]) * 1024


forms = {}


def prepare(what, how, sizes):
    if what == "lstm":
        t, b, w, h = sizes
        lstm = torch.nn.LSTM(w, h, bidirectional=True)
        inputs = [torch.rand(t, b, w, requires_grad=True), *lstm.parameters()]
        return lambda x, *_: lstm(x)[0].max(0).values.sum(), inputs
    m, v = sizes[0], sizes[-1]
    labels = torch.randint(0, v, (m,))
    if what == "loss":
        inputs = [torch.rand(m, v, requires_grad=True), torch.rand(m, v), labels]
        function = dwt_loss
    else:
        d = sizes[1]
        side = lambda tracked: [torch.rand(*shape, requires_grad=tracked) for shape in [(m, d), (v, d), (v,)]]
        inputs = [*side(True), *side(False), labels]
        function = head_and_loss
    return (torch.compile(function) if how == "compiled" else function), inputs


print("ready", torch.__version__, torch.get_num_threads(), flush=True)
for line in sys.stdin:
    what, how, *sizes = line.split()
    try:
        if line not in forms:
            forms[line] = prepare(what, how, [int(size) for size in sizes])
            function, inputs = forms[line]
            function(*inputs).backward()
        function, inputs = forms[line]
        for tensor in inputs:
            tensor.grad = None
        open("/proc/self/clear_refs", "w").write("5")
        before, started = status("VmRSS:"), time.perf_counter()
        function(*inputs).backward()
        seconds = time.perf_counter() - started
        print(seconds, max(0, status("VmHWM:") - before), flush=True)
    except Exception as problem:
        print("failed", str(problem).strip().splitlines()[0][:200], flush=True)
