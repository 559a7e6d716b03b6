"""The examples of docs/guides/serving.md, as they are written, against a server with and without `--allow-pickle`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.serving.running import running

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "serving.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)


@pytest.fixture
def demo(tmp_path, monkeypatch, pictures):
    """A folder with the demo's examples in it, as the current one."""
    (tmp_path / "runs/demo/examples").mkdir(parents=True)
    for n, picture in enumerate(pictures[:2]):
        picture.save(tmp_path / f"runs/demo/examples/{n}.png")
    monkeypatch.chdir(tmp_path)


def run(url: str) -> None:
    for example in EXAMPLES:
        exec(compile(example.replace("http://127.0.0.1:8000", url), str(GUIDE), "exec"), {})


@pytest.mark.parametrize("allowed", [True, False])
def test_the_examples_run(model, demo, capsys, allowed):
    assert len(EXAMPLES) == 2
    with running(model, allow_pickle=allowed) as url:
        run(url)
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("('alignment',")
    assert re.fullmatch(r"\[\d\.\d+\]" if allowed else "404", last)
