"""Steps and models of runs, read into Python."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import upstill
from upstill import _folders


def test_steps_are_dicts(trained: Path) -> None:
    steps = upstill.runs(trained, frame=False)
    assert [step["step"] for step in steps] == [0, 1, 2, 3]
    assert steps[0]["run"] == "one"
    assert 5 < steps[0]["loss"] < 10, "near the logarithm of the vocabulary's size"
    assert steps[3]["held_out_loss"] is not None


def test_a_folder_of_runs_gives_all(trained: Path) -> None:
    assert upstill.runs(trained.parent, frame=False) == upstill.runs(trained, frame=False)
    assert len(upstill.runs(trained, trained, frame=False)) == 8


def test_steps_are_a_frame_where_pandas_is(trained: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = upstill.runs(trained)
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["step"]) == [0, 1, 2, 3]
    assert frame["loss"].dtype == float


def test_several_models_are_columns() -> None:
    step = {
        "step": 3,
        "models": [{"name": "large", "loss": 2.0, "from": [{"name": "small", "alpha_soft": 0.5}]}, {"name": "small", "loss": 3.0}],
        "agreement": {"large/small": 0.25},
    }
    assert _folders.flat(step) == {
        "step": 3,
        "large.loss": 2.0,
        "large.from.small.alpha_soft": 0.5,
        "small.loss": 3.0,
        "agreement.large/small": 0.25,
    }


def test_a_line_that_is_being_written_waits_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    steps = tmp_path / "steps.jsonl"
    steps.write_text('{"step":0}\n{"step":1', encoding="utf-8")
    assert upstill.runs(tmp_path, frame=False) == [{"run": tmp_path.name, "step": 0}]
    steps.write_text('{"step":0}\n{"step:1\n', encoding="utf-8")
    with pytest.raises(ValueError, match="steps.jsonl:2: this line is damaged"):
        upstill.runs(tmp_path, frame=False)


def test_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no run here"):
        upstill.runs(tmp_path)
    with pytest.raises(FileNotFoundError, match="no model here"):
        upstill.model(tmp_path)


def test_a_model_is_found_by_its_name(tmp_path: Path) -> None:
    for name in ("large", "small"):
        (tmp_path / "model" / name).mkdir(parents=True)
        (tmp_path / "model" / name / "config.json").write_text("{}", encoding="utf-8")
    assert _folders.model_folder(tmp_path, "small") == tmp_path / "model/small"
    with pytest.raises(FileNotFoundError, match="give one of large, small as `name`"):
        _folders.model_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="no model 'medium' here; it has large, small"):
        _folders.model_folder(tmp_path, "medium")
    assert _folders.model_folder(tmp_path / "model/large") == tmp_path / "model/large"


def test_what_is_not_installed_is_said(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(_folders, "import_module", nothing)
    with pytest.raises(ImportError, match="pip install transformers torch"):
        upstill.model(trained)
    with pytest.raises(ImportError, match="pip install pandas"):
        upstill.runs(trained, frame=True)


def test_a_model_that_transformers_does_not_know_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_folders, "import_module", lambda name: import_module("json"))
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["UpstillBiLstm"]}), encoding="utf-8")
    with pytest.raises(ValueError, match="`transformers` has no UpstillBiLstm"):
        upstill.model(tmp_path)


def test_a_model_loads_into_transformers(trained: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    model, tokenizer = upstill.model(trained), upstill.tokenizer(trained)
    assert type(model).__name__ == "BertForMaskedLM"
    assert model.config.num_hidden_layers == 1
    logits = model(**tokenizer("the cat [MASK] .", return_tensors="pt")).logits
    assert logits.shape == (1, len(tokenizer.tokenize("the cat [MASK] .")) + 2, len(tokenizer))
