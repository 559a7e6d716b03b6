"""Two processes on the CPU, started as `accelerate launch` starts them on GPUs: they leave one whole run."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from zreward.runs import read_metrics


@pytest.mark.slow
def test_two_processes_leave_one_whole_run(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "generator")
    raw = {
        "student": "world:small",
        "out": str(tmp_path / "run"),
        "prompts": "world:6",
        "held_out": "world:6",
        "generator": {"name": str(tmp_path / "generator"), "steps": 3},
        "gradient": {"steps": [1, 2]},
        "optimizer": {"steps": 3, "batch_size": 2, "learning_rate": 1e-3},
        "guards": {"every": 3, "prompts": 2, "min_diversity": 0.0, "max_drift": 9.0, "max_dimension_fall": 9.0},
        "save_every": 2,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(raw))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, "-m", "zreward.cli", "optimize", str(tmp_path / "recipe.yaml")]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, capture_output=True, text=True, env=settings, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [1, 2, 3]
    assert json.loads((tmp_path / "run" / "outcome.json").read_text())["stopped_at"] == 3
    assert (tmp_path / "run" / "model").is_dir()
    assert (tmp_path / "run" / "checkpoints" / "step-2").is_dir()
