"""What the command wrote: steps and models of runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    import pandas

# One optimizer step, as a line of steps.jsonl has it: `step` from 0, losses in nats a masked token, `lr`, `tokens_per_s`, and more.
Step = dict[str, Any]
Folder = "str | os.PathLike[str]"

STEPS = "steps.jsonl"


@overload
def runs(*folders: str | os.PathLike[str], frame: Literal[False]) -> list[Step]: ...
@overload
def runs(*folders: str | os.PathLike[str], frame: Literal[True]) -> pandas.DataFrame: ...
@overload
def runs(*folders: str | os.PathLike[str], frame: None = None) -> Any: ...
def runs(*folders: str | os.PathLike[str], frame: bool | None = None) -> Any:
    """The steps of runs, also while they train: a pandas frame where pandas is installed, else a list of dicts.

    A folder is a run's, or one with runs in it; `run` says which run's a step is. `frame` asks for one or the other: True
    raises ImportError without pandas. In a frame, numbers of a model among several are in columns such as `large.loss`.

    Raises FileNotFoundError where there is no run, ValueError where a line is damaged.
    """
    found = [run for folder in folders for run in runs_in(Path(folder))]
    steps = [{"run": run.name, **step} for run in found for step in steps_of(run / STEPS)]
    if frame is None:
        frame = find_spec("pandas") is not None
    if not frame:
        return steps
    return wanted("pandas", "a frame").DataFrame([flat(step) for step in steps])


def runs_in(folder: Path) -> list[Path]:
    """A run's folder itself, or every run's below it, in the order of their names."""
    if (folder / STEPS).is_file():
        return [folder]
    below = sorted(path.parent for path in folder.rglob(STEPS))
    if not below:
        raise FileNotFoundError(f"{folder}: no run here (it would have a {STEPS}): name a run's folder, or one with runs in it")
    return below


def steps_of(path: Path) -> Iterator[Step]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            # A last line without an end is still being written.
            if line.endswith("\n"):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise ValueError(f"{path}:{number}: this line is damaged: {error}") from error


def flat(step: Step) -> Step:
    """A step in one level: several models' numbers under `MODEL.name`, their soft losses under `MODEL.from.OTHER.name`."""
    out = {name: value for name, value in step.items() if name not in ("models", "agreement")}
    for model in step.get("models", ()):
        own = model["name"]
        out.update({f"{own}.{name}": value for name, value in model.items() if name not in ("name", "from")})
        for soft in model.get("from", ()):
            out.update({f"{own}.from.{soft['name']}.{name}": value for name, value in soft.items() if name != "name"})
    out.update({f"agreement.{pair}": share for pair, share in step.get("agreement", {}).items()})
    return out


def model(folder: str | os.PathLike[str], name: str | None = None, **options: Any) -> Any:
    """A trained model in `transformers`: of a run, a checkpoint, or a folder that `upstill export` wrote.

    `name` chooses one of several that trained together. Its class is the one that its `config.json` names, such as
    `BertForMaskedLM`; `options` go to `from_pretrained`.

    Raises FileNotFoundError where there is no such model, ValueError for one that `transformers` has no class for (a BiLSTM
    student), ImportError without `transformers`.
    """
    found = model_folder(Path(folder), name)
    architectures = json.loads((found / "config.json").read_text(encoding="utf-8")).get("architectures") or ["?"]
    transformers = wanted("transformers", "a model")
    kind = getattr(transformers, architectures[0], None)
    if kind is None:
        raise ValueError(f"{found}: `transformers` has no {architectures[0]}: `upstill fill` and `upstill eval` take the folder")
    return kind.from_pretrained(found, **options)


def tokenizer(folder: str | os.PathLike[str], name: str | None = None, **options: Any) -> Any:
    """The tokenizer of a model, in `transformers`. Arguments and errors as for `model`."""
    return wanted("transformers", "a tokenizer").AutoTokenizer.from_pretrained(model_folder(Path(folder), name), **options)


def model_folder(folder: Path, name: str | None = None) -> Path:
    """The Hugging Face folder within a run's folder."""
    several = sorted(path.parent for path in (folder / "model").glob("*/config.json"))
    places = [folder, folder / "model", *several] if name is None else [folder / "model" / name]
    found = [place for place in places if (place / "config.json").is_file()]
    if not found:
        there = f"; it has {', '.join(path.name for path in several)}" if several else ""
        asked = "model" if name is None else f"model {name!r}"
        raise FileNotFoundError(f"{folder}: no {asked} here{there}: name a run that is done, or a Hugging Face folder")
    if len(several) > 1 and found == several:
        names = ", ".join(path.name for path in several)
        raise FileNotFoundError(f"{folder}: several models trained here: give one of {names} as `name`")
    return found[0]


def wanted(module: str, what: str) -> Any:
    """A package that is used where it is installed."""
    try:
        return import_module(module)
    except ImportError as error:
        needs = "transformers torch" if module == "transformers" else module
        raise ImportError(f"{what} needs {module}: pip install {needs}") from error
