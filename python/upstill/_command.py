"""Finding the command, and running it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, TextIO, Union

# A word of the command line.
Word = Union[str, int, float, "os.PathLike[str]"]
# An option's value: True is a flag, None and False leave it out, a list gives it again for each value.
Value = Union[Word, None, Iterable[Word]]

# Lines of what the command said last that an error repeats.
LAST_LINES = 20


class CommandError(RuntimeError):
    """The command did not do what it was asked; the message is what it said.

    `code` is its exit code: 1 a check failed, 2 it could not run, 130 it was interrupted; negative, a signal ended it.
    """

    def __init__(self, words: str, code: int) -> None:
        super().__init__(words)
        self.code = code


def command() -> Path:
    """The command that was installed with this package, or the one that the environment variable UPSTILL_COMMAND names.

    Raises FileNotFoundError where it is not there.
    """
    named = os.environ.get("UPSTILL_COMMAND")
    if named:
        if not Path(named).is_file():
            raise FileNotFoundError(f"UPSTILL_COMMAND names {named}, which is no file: name the command, or unset it")
        return Path(named)
    name = "upstill.exe" if os.name == "nt" else "upstill"
    scripts = "Scripts" if os.name == "nt" else "bin"
    package = Path(__file__).resolve().parent
    folders = [
        Path(sysconfig.get_path("scripts")),
        Path(sysconfig.get_path("scripts", scheme=f"{os.name}_user" if os.name == "nt" else "posix_user")),
        # `pip install --target FOLDER` and `--prefix FOLDER`.
        package.parent / scripts,
        *(above / scripts for above in list(package.parents)[2:4]),
    ]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    looked = ", ".join(str(folder) for folder in dict.fromkeys(folders))
    raise FileNotFoundError(f"{name} is in none of {looked}: install the package again, or name it in UPSTILL_COMMAND")


def run(*words: Word, quiet: bool = False, cwd: str | os.PathLike[str] | None = None, **options: Value) -> str:
    """Runs `upstill WORDS --OPTIONS` to its end, and gives what it printed as its result (standard output).

    An option is named as on the command line, `_` for `-`: `upstill.run("train", "student.toml", out="runs/student",
    resume=True)`. A list gives an option again for each of its values, True is a flag, None and False leave it out.

    What the command says is shown as it comes, in a notebook too, unless `quiet`. An interrupt ends the command as Ctrl-C
    does in a terminal: it saves first, and a second interrupt ends it at once.

    Raises CommandError, with what the command said, when its exit code is not 0.
    """
    return finish(line_of(words, options), show_result=not quiet, show_progress=not quiet, cwd=cwd)


def study(
    study_file: str | os.PathLike[str] | None = None,
    *,
    quiet: bool = False,
    cwd: str | os.PathLike[str] | None = None,
    **options: Value,
) -> dict[str, Any]:
    """Runs `upstill study`, or finds what it did before, and gives its results, as `upstill study --json` prints them: `arms`
    with losses in nats a masked token, intervals and seeds, `report`, the path of the HTML file, and more.

    Options are given as to `run`: `upstill.study(size="tiny", out="runs/tiny")`. Raises CommandError as `run` does.
    """
    words = ["study"] if study_file is None else ["study", study_file]
    line = line_of(words, {**options, "json": True})
    found: dict[str, Any] = json.loads(finish(line, show_result=False, show_progress=not quiet, cwd=cwd))
    return found


def line_of(words: Sequence[Word], options: dict[str, Value]) -> list[str]:
    """The command line: `["upstill", WORDS..., "--option", "value", ...]`, the command by its path."""
    line = [str(command()), *(os.fspath(word) if isinstance(word, os.PathLike) else str(word) for word in words)]
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        if value is True:
            line.append(option)
        elif value is None or value is False:
            continue
        else:
            several = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
            for one in value if several else [value]:  # type: ignore[union-attr]
                # In one word, as a value may begin with a dash.
                line.append(f"{option}={os.fspath(one) if isinstance(one, os.PathLike) else one}")
    return line


def finish(line: list[str], *, show_result: bool, show_progress: bool, cwd: str | os.PathLike[str] | None) -> str:
    """Runs a command line to its end and gives its standard output."""
    # A terminal is left to the command, for its progress bar; elsewhere, as in a notebook, lines are passed on.
    in_terminal = show_progress and is_terminal()
    with subprocess.Popen(
        line,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if in_terminal else subprocess.PIPE,
        cwd=cwd,
        encoding="utf-8",
        errors="replace",
    ) as process:
        printed: list[str] = []
        said: deque[str] = deque(maxlen=LAST_LINES)
        listeners = [listen(process.stdout, printed, sys.stdout if show_result else None)]
        if not in_terminal:
            listeners.append(listen(process.stderr, said, sys.stderr if show_progress else None))
        wait(process)
        for listener in listeners:
            listener.join()
    if process.returncode != 0:
        how = f"exit code {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
        words = "".join(said).strip() or "what it said is above"
        raise CommandError(f"`upstill {' '.join(line[1:])}` ended with {how}: {words}", process.returncode)
    return "".join(printed)


def is_terminal() -> bool:
    try:
        return sys.stderr.fileno() == 2 and os.isatty(2)
    except (AttributeError, OSError, ValueError):
        return False


def listen(stream: IO[str] | None, into: list[str] | deque[str], show: TextIO | None) -> threading.Thread:
    """Collects the lines of a stream, and shows them, until it ends."""

    def each() -> None:
        for line in stream or ():
            into.append(line)
            if show is not None:
                show.write(line)
                show.flush()

    thread = threading.Thread(target=each, daemon=True)
    thread.start()
    return thread


def wait(process: subprocess.Popen[str]) -> None:
    """Waits for the command's end, through interrupts: a terminal and a notebook send them to the command as well."""
    interrupted: KeyboardInterrupt | None = None
    while True:
        try:
            process.wait()
            break
        except KeyboardInterrupt as again:
            if interrupted is not None:
                process.terminate()
            interrupted = again
    if interrupted is not None:
        raise interrupted
