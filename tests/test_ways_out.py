"""Ways out of the program, as processes: any encoding, closed and full outputs, odd widths, interruptions, odd arguments."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.tiny import tiny_model
from zreward.cli import main as cli
from zreward.cli.exits import exit_code

ZREWARD = [sys.executable, "-m", "zreward.cli"]


@pytest.fixture
def picture(tmp_path) -> Path:
    Image.new("RGB", (32, 32), (200, 40, 40)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | variables
    return subprocess.run([*ZREWARD, *map(os.fsencode, map(str, arguments))], capture_output=True, env=environment)


def shell(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    quoted = f'{sys.executable} -m zreward.cli "$@"'
    script = f"zreward() {{ {quoted}; }}\n{command}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=os.environ | variables)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def written(monkeypatch, model):
    """written(arguments, encoding) -> (exit code, standard output as text, standard error), in this process."""

    def call(arguments: list[str], encoding: str = "utf-8") -> tuple[int, str, str]:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=e) for e in ("strict", "backslashreplace"))
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        monkeypatch.setattr(sys, "argv", ["zreward", *arguments])
        for command in ("score", "rank"):
            monkeypatch.setattr(f"zreward.cli.{command}.load_model", lambda *_, **__: model)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        texts = []
        for stream in (out, err):
            stream.flush()
            texts.append(stream.buffer.getvalue().decode(encoding))
        return int(stop.value.code or 0), *texts

    return call


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_scores_are_printed_in_any_encoding(picture, encoding, written):
    code, text, err = written(["rank", "world:small", str(picture), "--prompt", "a red ✨ circle"], encoding)
    assert code == 0, err
    assert ("✨" if encoding == "utf-8" else "\\u2728") in text
    code, text, err = written(["score", "world:small", str(picture), "--prompt", "a red circle"], encoding)
    assert code == 0, err
    assert ("█" in text) == (encoding == "utf-8")
    assert "alignment" in text and "?" not in text


def test_a_prompt_that_is_no_text_is_one_message(picture, written):
    code, _, err = written(["score", "world:small", str(picture), "--prompt", os.fsdecode(b"caf\xe9")])
    assert code == 2
    message = "--prompt is no Unicode text ('caf\\udce9' holds half a surrogate pair); write it in UTF-8"
    assert err.splitlines() == [f"zreward: {message}"]


def test_a_file_name_that_is_no_text_is_scored(tmp_path, picture, written, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    odd = tmp_path / os.fsdecode(b"caf\xe9.png")
    picture.rename(odd)
    code, out, err = written(["score", "world:small", str(odd), "--prompt", "a red circle"])
    assert code == 0, err
    assert "caf\\udce9.png" in out


@pytest.mark.parametrize("option", ["--dimensions", "--json", "--out"])
def test_other_arguments_that_are_no_text_leave_no_traceback(picture, option, written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = written(["score", "world:small", str(picture), "--prompt", "x", option, os.fsdecode(b"\xff")])
    assert (code, err.count("zreward: ")) == ((0, 0) if option == "--json" else (2, 1)), err  # any bytes name a file


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        ("zreward --help | true; exit ${PIPESTATUS[0]}", {0, 1}),
        ("zreward --help > /dev/full", {2}),
        ("zreward --help >&-", {0}),
        ("zreward nothing 2>&-", {2}),
        ("zreward train none.yaml 2>/dev/full", {2}),
    ],
)
def test_an_output_that_takes_nothing(redirection, code):
    done = shell(redirection)
    assert done.returncode in code, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_a_reader_that_goes_away_early():
    """The pipe is closed before anything is written into it, every time."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*ZREWARD, "--help"], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    "variables", [{"COLUMNS": "1"}, {"COLUMNS": "x"}, {"TERMINAL_WIDTH": "x"}, {"LC_ALL": "nowhere"}]
)
def test_odd_terminals(variables):
    done = run("score", "--help", **variables)
    assert done.returncode == 0, done.stderr


def test_no_colour_where_none_is_wanted():
    coloured = re.compile(rb"\x1b\[[0-9;]*3[0-9]")
    assert coloured.search(run("--help", FORCE_COLOR="1", NO_COLOR="", TERM="xterm").stdout)
    assert not coloured.search(run("--help", FORCE_COLOR="1", NO_COLOR="1", TERM="xterm").stdout)


def test_an_interruption_is_one_line(monkeypatch, capsys):
    def interrupt(*_):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    monkeypatch.setattr("zreward.training.recipe.load_recipe", interrupt)
    monkeypatch.setattr(sys, "argv", ["zreward", "train", "recipe.yaml"])
    # What a shell starts in the background ignores the signal: the test may be such a process.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as stop:
            cli.main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert (stop.value.code, capsys.readouterr().err) == (130, "zreward: interrupted\n")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "a smaller --batch-size"),
        (MemoryError(), "a smaller --batch-size"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "a smaller --batch-size",
        ),
        (PermissionError(13, "Permission denied", "/nowhere/x"), "/nowhere/x: Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "expected text in UTF-8"),
        (UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates not allowed"), "no Unicode text"),
    ],
)
def test_what_the_machine_refuses_is_one_message(error, message, capsys):
    def command():
        raise error

    assert exit_code(command, ["label", "teacher"]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_what_is_our_own_mistake_keeps_its_traceback():
    def command():
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        exit_code(command, ["label"])
