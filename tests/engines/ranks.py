"""Real training runs in several processes on the CPU (gloo), under the engines that people launch: DDP, FSDP2, ZeRO.

    python -m tests.engines.ranks FOLDER ENGINE RANK RANKS

trains by FOLDER/job.json, which holds a recipe and whether to resume. The engines are accelerate's and DeepSpeed's own. Two
lines of them ask for a GPU by name, and are told otherwise here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ENGINES: dict[str, dict[str, str]] = {
    "ddp": {},
    "fsdp2": {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    },
    "zero2": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
    "zero3": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
}
"""What `accelerate launch` puts into the environment of every process."""


def train_together(recipe: Any, engine: str, ranks: int, folder: Path, resume: bool = False) -> list[dict[str, Any]]:
    """Train by a recipe in so many processes; the steps of metrics.jsonl. What one process fails with is raised."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_text(json.dumps({"recipe": asdict(recipe), "resume": resume}))
    (folder / "rendezvous").unlink(missing_ok=True)
    outcomes = launch(folder, engine, ranks)
    for code, errors in outcomes:
        assert code == 0, errors[-4000:]
    return steps_of(recipe)


def steps_of(recipe: Any) -> list[dict[str, Any]]:
    from zreward.common.runs import read_metrics

    return [row for row in read_metrics(recipe.out) if "loss" in row]


def launch(folder: Path, engine: str, ranks: int, extra: dict[str, str] | None = None) -> list[tuple[int, str]]:
    """Exit code and error output of every process."""
    settings = os.environ | ENGINES[engine] | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | (extra or {})
    command = [sys.executable, "-m", "tests.engines.ranks", str(folder), engine]
    logs = [folder / f"rank-{rank}.log" for rank in range(ranks)]
    processes = []
    for rank, log in enumerate(logs):
        with log.open("w") as stream:
            processes.append(
                subprocess.Popen(
                    [*command, str(rank), str(ranks)], cwd=ROOT, env=settings, stderr=stream, stdout=stream
                )
            )
    try:
        for process in processes:
            process.wait(timeout=600)
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, log.read_text()) for process, log in zip(processes, logs, strict=True)]


def _without_a_gpu(engine: str) -> None:
    """Let accelerate and DeepSpeed take up an engine on CPUs."""
    from accelerate.state import AcceleratorState, DistributedType, PartialState

    begin = AcceleratorState.__init__

    def on_cpus(self, *args: Any, **options: Any) -> None:
        if not PartialState._shared_state:
            PartialState(cpu=True)
        shared = PartialState._shared_state
        first = shared["distributed_type"] is DistributedType.MULTI_CPU
        if first:
            shared["distributed_type"] = DistributedType.MULTI_GPU  # what follows asks for one of its kind
        del os.environ["ACCELERATE_USE_CPU"]
        begin(self, *args, **options)
        os.environ["ACCELERATE_USE_CPU"] = "true"
        if first:
            shared["distributed_type"] = self.distributed_type

    if engine != "ddp":
        AcceleratorState.__init__ = on_cpus
    if engine.startswith("zero"):
        import deepspeed.comm.torch as communication

        communication.build_shm_op = lambda: None  # its kernel for shared memory is not built


def main(arguments: Sequence[str]) -> None:
    folder, engine, rank, ranks = Path(arguments[0]), arguments[1], int(arguments[2]), int(arguments[3])
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "ACCELERATE_USE_CPU": "true"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    os.environ["DS_ACCELERATOR"] = "cpu"
    import torch

    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=ranks)
    _without_a_gpu(engine)
    from zreward.common.config import config_from_dict
    from zreward.training.recipe import Recipe
    from zreward.training.run import train

    job = json.loads((folder / "job.json").read_text())
    recipe = config_from_dict(Recipe, job["recipe"])
    train(replace(recipe), resume=job["resume"])
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1:])
