"""The command line as a user meets it, with a picture, half a picture and a folder of pictures."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.commands.inputs import records
from zreward.cli import main as cli


@pytest.fixture
def zreward(monkeypatch, capsys):
    """zreward("score", ...) -> (exit code, what was printed, what was complained about)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zreward", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "160")
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def picture(tmp_path) -> Path:
    Image.new("RGB", (32, 32), (200, 40, 40)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.fixture
def truncated(picture, tmp_path) -> Path:
    Image.effect_noise((32, 32), 80).convert("RGB").save(tmp_path / "truncated.png")
    whole = (tmp_path / "truncated.png").read_bytes()
    (tmp_path / "truncated.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path / "truncated.png"


@pytest.fixture
def folder(tmp_path, picture) -> Path:
    """A folder whose pictures.jsonl lists two pictures of two prompts."""
    (tmp_path / "listed").mkdir()
    for name in ("0.png", "1.png"):
        shutil.copy(picture, tmp_path / "listed" / name)
    rows = [
        {"image": f"{n}.png", "prompt": prompt, "seed": 0} for n, prompt in enumerate(["a red [circle]", "=a, 'b'"])
    ]
    records(tmp_path / "listed" / "pictures.jsonl", *rows)
    return tmp_path / "listed"
