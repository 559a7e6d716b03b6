"""The server against its own OpenAPI document: whatever the document allows gets an answer that the document announces."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.running import running

ROOT = Path(__file__).parents[2]  # schemathesis.toml lies there


@pytest.mark.slow
def test_schemathesis_finds_nothing(model, tmp_path):
    pytest.importorskip("schemathesis", reason="pip install 'zreward[dev]' brings schemathesis")
    with running(model, max_batch=4, max_pixels=64 * 64, max_body=2**18) as url:
        command = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{url}/openapi.json"]
        command += ["--max-examples", "100", "--seed", "1"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Tested: 5" in done.stdout
