"""Real training runs in several processes on the CPU (gloo), under the engines that people launch: DDP, FSDP2, ZeRO.

    python -m tests.engines.ranks FOLDER ENGINE RANK RANKS

trains by the recipes of FOLDER/jobs.json, one after another. The engines are accelerate's and DeepSpeed's own; where they ask for
a GPU by name, they are told otherwise here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zreward.common.runs import read_metrics
from zreward.training.recipe import Recipe

ROOT = Path(__file__).parents[2]
ENGINES: dict[str, dict[str, str]] = {
    "ddp": {},
    "fsdp2": {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    },
    "zero2": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
    "zero3": {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3",
        "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "true",
    },
}
"""What `accelerate launch` puts into the environment of every process."""
KINDS = {"ddp": "MULTI_CPU", "fsdp2": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}


def train_together(
    recipes: Mapping[str, Recipe],
    engine: str,
    ranks: int,
    folder: Path,
    resume: bool = False,
    settings: Mapping[str, str] | None = None,
) -> None:
    """Train by recipes, one after another, in so many processes. What one of them fails with is raised."""
    for code, log in launch(recipes, engine, ranks, folder, resume, settings):
        assert code == 0, log[-4000:]


def launch(
    recipes: Mapping[str, Recipe],
    engine: str,
    ranks: int,
    folder: Path,
    resume: bool = False,
    settings: Mapping[str, str] | None = None,
) -> list[tuple[int, str]]:
    """Exit code and output of every process."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = {name: asdict(recipe) for name, recipe in recipes.items()}
    (folder / "jobs.json").write_text(json.dumps({"recipes": jobs, "resume": resume}))
    (folder / "rendezvous").unlink(missing_ok=True)
    environment = os.environ | ENGINES[engine] | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | dict(settings or {})
    command = [sys.executable, "-m", "tests.engines.ranks", str(folder), engine]
    logs, processes = [folder / f"rank-{rank}.log" for rank in range(ranks)], []
    for rank, log in enumerate(logs):
        with log.open("w") as stream:
            whole = [*command, str(rank), str(ranks)]
            processes.append(subprocess.Popen(whole, cwd=ROOT, env=environment, stderr=stream, stdout=stream))
    try:
        for process in processes:
            process.wait(timeout=900)
    finally:
        for process in processes:
            process.kill()  # one that waits for another
    return [(process.returncode, log.read_text()) for process, log in zip(processes, logs, strict=True)]


def steps_of(recipe: Recipe) -> list[dict[str, Any]]:
    """Every step, with the newest point of the dev curve."""
    steps: list[dict[str, Any]] = []
    point: dict[str, Any] = {}
    for row in read_metrics(recipe.out):
        if "loss" in row:
            steps.append(row | point)
        elif "dev_plcc" in row:
            point = {"dev_plcc": row["dev_plcc"]}
    return steps


def _on_cpus(engine: str) -> None:
    """Let accelerate and DeepSpeed take up an engine without a GPU."""
    from accelerate.state import AcceleratorState, DistributedType, PartialState

    begin = AcceleratorState.__init__

    def begin_on_cpus(self: AcceleratorState, *args: Any, **options: Any) -> None:
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
        AcceleratorState.__init__ = begin_on_cpus
    if engine.startswith("zero"):
        import deepspeed.comm.torch as communication

        communication.build_shm_op = lambda: None  # its kernel for shared memory is not built


def main(arguments: Sequence[str]) -> None:
    folder, engine, rank, ranks = Path(arguments[0]), arguments[1], int(arguments[2]), int(arguments[3])
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
        "ACCELERATE_USE_CPU": "true",
        "DS_ACCELERATOR": "cpu",
    }
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    import torch
    from accelerate.state import AcceleratorState

    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=ranks)
    _on_cpus(engine)
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    from zreward.common.config import config_from_dict
    from zreward.training.run import train

    jobs = json.loads((folder / "jobs.json").read_text())
    for name, recipe in jobs["recipes"].items():
        print(f"--- {name}", flush=True)
        train(config_from_dict(Recipe, recipe), resume=jobs["resume"])
        unset_hf_deepspeed_config()  # or the next model would be loaded as this run's configuration says
        assert AcceleratorState().distributed_type.value == KINDS[engine], "another engine than asked for has trained"
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1:])
