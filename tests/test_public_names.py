"""What `import zreward` offers: fast, complete, and typed for whoever builds on it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import zreward

NAMES = {
    *("Aggregate", "Dimension", "InputError", "Judgement", "Record", "RewardClient", "RewardModel", "Rubric"),
    *(
        "ScoreDistribution",
        "ScoreScale",
        "evaluate",
        "label",
        "load_records",
        "optimize",
        "rank",
        "score_data",
        "train",
    ),
}


def test_importing_zreward_loads_no_model_code():
    code = (
        "import sys, zreward; print([m for m in ('torch', 'transformers', 'numpy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_public_name_can_be_imported(name):
    assert getattr(zreward, name).__name__ == name


def test_they_are_listed_and_others_are_not_there():
    assert NAMES | {"__version__"} == set(zreward.__all__)
    assert set(dir(zreward)) >= NAMES
    with pytest.raises(AttributeError, match="nothing"):
        _ = zreward.nothing


LARGE = (
    "torch",
    "transformers",
    "numpy",
    "scipy",
    "diffusers",
    "accelerate",
    "peft",
    "pyarrow",
    "PIL",
    "httpx",
    "datasets",
)
CONSUMER = """
from pathlib import Path

import zreward
from zreward import RewardModel, ScoreDistribution

model = RewardModel.from_pretrained("judge", device="cpu", max_trace_tokens=64)
scores: ScoreDistribution = model.score([Path("a.png")], "a red circle")
reveal_type(scores)
reveal_type(zreward.load_records("data.jsonl"))
RewardModel.from_pretrained("judge", devise="cpu")
"""


def test_a_type_checker_sees_the_types(tmp_path):
    """In a consumer's project: types of what comes back, and a misspelt option is found."""
    pytest.importorskip("mypy", reason="pip install mypy")
    (tmp_path / "consumer.py").write_text(CONSUMER)
    large = "".join(f"[mypy-{name}.*]\nfollow_imports = skip\n" for name in LARGE)  # their types are not asked for here
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nignore_missing_imports = True\nfollow_imports = silent\n{large}")
    options = ["--config-file", str(tmp_path / "mypy.ini"), "--cache-dir", str(tmp_path / "cache")]
    command = [
        sys.executable,
        "-m",
        "mypy",
        *options,
        str(tmp_path / "consumer.py"),
    ]  # in a process: it raises Python's limits
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said, status = done.stdout, done.returncode
    assert 'Revealed type is "zreward.distribution.ScoreDistribution"' in said
    assert 'Revealed type is "list[zreward.data.record.Record]"' in said
    assert 'Unexpected keyword argument "devise"' in said
    assert status == 1 and said.count("error:") == 1, said
