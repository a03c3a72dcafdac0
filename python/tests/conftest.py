"""A run that trained once for all tests, with the command that is installed beside this Python (or UPSTILL_COMMAND's)."""

from __future__ import annotations

from pathlib import Path

import pytest

import upstill

RUN_FILE = """
preset = "standalone"
[model]
layers = 1
hidden = 32
heads = 2
max_positions = 32
[data]
shards = "pocket"
length = 32
[train]
steps = {steps}
batch = 4
lr = 1e-3
[runtime]
device = "cpu"
"""


def write_run_file(folder: Path, steps: int = 4) -> Path:
    path = folder / "run.toml"
    path.write_text(RUN_FILE.format(steps=steps), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of 4 steps."""
    folder = tmp_path_factory.mktemp("trained")
    upstill.run("train", write_run_file(folder), out=folder / "runs/one", quiet=True)
    return folder / "runs/one"
