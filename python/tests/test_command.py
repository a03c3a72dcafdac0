"""The command, run from Python: words, exit codes, interrupts, and what stands in its way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import upstill
from conftest import write_run_file
from upstill._command import line_of

posix = pytest.mark.skipif(os.name != "posix", reason="signals and permissions are Unix's own")


def python(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, **options)  # type: ignore[call-overload,no-any-return]


def test_the_command_is_the_one_that_was_installed() -> None:
    said = upstill.run("--version", quiet=True)
    assert said.startswith("upstill 0."), said
    assert python("-m", "upstill", "--version").stdout == said


def test_a_module_passes_words_and_exit_codes_on() -> None:
    wrong = python("-m", "upstill", "plan", "not-there.toml")
    assert wrong.returncode == 2
    assert "not-there.toml" in wrong.stderr and "help:" in wrong.stderr


def test_options_are_given_by_name() -> None:
    line = line_of(["train", Path("a.toml")], {"out": Path("b"), "resume": True, "seed": None, "set": ["x=1", "y=-2"], "json": False})
    assert line[1:] == ["train", "a.toml", "--out=b", "--resume", "--set=x=1", "--set=y=-2"]
    assert line_of([], {"max_steps": 3})[1:] == ["--max-steps=3"]


def test_what_the_command_says_is_shown_and_its_result_given(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    result = upstill.run("plan", write_run_file(tmp_path))
    shown = capsys.readouterr()
    assert shown.out == result and "parameters" in result
    assert "parameters" in upstill.run("plan", tmp_path / "run.toml", quiet=True)
    assert capsys.readouterr() == ("", "")


def test_an_error_is_raised_with_what_was_said(tmp_path: Path) -> None:
    with pytest.raises(upstill.CommandError, match="not-there.toml") as raised:
        upstill.run("plan", "not-there.toml", quiet=True, cwd=tmp_path)
    assert raised.value.code == 2
    assert "help:" in str(raised.value)


def test_a_command_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTILL_COMMAND", "/not/there")
    with pytest.raises(FileNotFoundError, match="UPSTILL_COMMAND names /not/there"):
        upstill.run("--version")


def test_a_study_gives_its_results(tmp_path: Path) -> None:
    results = upstill.study(size="tiny", device="cpu", out=tmp_path / "study", quiet=True)
    arms = {arm["name"]: arm for arm in results["arms"]}
    assert "stand-alone" in arms and len(arms) >= 3
    assert 0 < arms["stand-alone"]["held_out_loss"]["mean"] < 10
    assert Path(results["report"]).is_file()


@posix
def test_an_interrupt_saves_and_the_run_goes_on(tmp_path: Path) -> None:
    # What a shell's background job is started with ignores the signal, and what it starts does too.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    train = f"upstill.run('train', {str(write_run_file(tmp_path, 100_000))!r}, out={str(tmp_path / 'run')!r})"
    words = f"{heard}import upstill; {train}"
    # A group of its own, as a terminal or a notebook has: both processes get the signal.
    with subprocess.Popen([sys.executable, "-c", words], stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        steps = tmp_path / "run/steps.jsonl"
        for _ in range(600):
            if steps.is_file() and steps.stat().st_size > 0:
                break
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert "KeyboardInterrupt" in said and "--resume" in said, said
    assert process.returncode != 0
    done = upstill.runs(tmp_path / "run", frame=False)
    assert [step["step"] for step in done] == list(range(len(done)))
    assert any((tmp_path / "run/checkpoints").iterdir()), "it saved"


@posix
def test_without_a_home_all_works(tmp_path: Path, trained: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")}
    for words in (["doctor", "--device", "cpu"], ["fill", str(trained), "the cat [MASK] .", "--device", "cpu"]):
        found = python("-m", "upstill", *words, env=environment, cwd=tmp_path)
        assert found.returncode == 0, found.stderr


@posix
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    run_file = write_run_file(tmp_path)
    # Where nobody may write, not even root.
    found = python("-m", "upstill", "train", str(run_file), "--out", "runs/x", cwd="/proc")
    assert found.returncode == 2
    assert "runs" in found.stderr and "help:" in found.stderr and "panicked" not in found.stderr, found.stderr


def test_pip_refuses_the_wheel_where_glibc_is_too_old(tmp_path: Path) -> None:
    wheel = os.environ.get("UPSTILL_TEST_WHEEL")
    if not wheel or "manylinux" not in wheel:
        pytest.skip("UPSTILL_TEST_WHEEL names no manylinux wheel")
    words = ["-m", "pip", "install", "--no-deps", "--no-index", "--dry-run", "--only-binary=:all:", "--target", str(tmp_path)]
    old = python(*words, "--platform", "manylinux_2_17_x86_64", wheel)
    assert old.returncode != 0 and "is not a supported wheel on this platform" in old.stderr, old.stderr
    # And takes it where it isn't: the platform's tag is all that is asked for.
    fits = Path(wheel).stem.rsplit("-", 1)[1].split(".")[0]
    assert python(*words, "--platform", fits, wheel).returncode == 0
