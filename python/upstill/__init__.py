"""upstill from Python: runs the command, and reads what it wrote.

>>> import upstill
>>> upstill.run("study", size="tiny")             # any command, its options by name
>>> results = upstill.study(size="tiny")          # a study's results: arms, seeds, intervals
>>> steps = upstill.runs("runs/student")          # its steps: a pandas frame, or dicts without pandas
>>> model = upstill.model("runs/student")         # in `transformers`, with upstill.tokenizer beside it

The work is done by the command that comes with this package, in a process of its own.
"""

from upstill._command import CommandError, command, run, study
from upstill._folders import Step, model, runs, tokenizer

__all__ = ["CommandError", "Step", "command", "model", "run", "runs", "study", "tokenizer"]
