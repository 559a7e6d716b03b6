"""Real training runs in several processes on the CPU (gloo), under the engines that people launch: DDP, FSDP2, ZeRO.

`python -m tests.engines.ranks` imports everything once and then forks the processes of each launch that it is told. The engines
are accelerate's and DeepSpeed's own; where they ask for a GPU by name, they are told otherwise here.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.engines.passes import Watch
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
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
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
KILLED = -signal.SIGKILL


@dataclass
class Launch:
    """Recipes that so many processes train by, one after another."""

    engine: str
    ranks: int
    folder: str  # of the processes' logs and events
    recipes: dict[str, Any]
    resume: bool = False
    dry: bool = False  # one step with tiny weights
    environment: dict[str, str] = field(default_factory=dict)
    watch: str = ""  # the folder whose file-system steps are events
    kill: tuple[int, int] | None = None  # rank, and the number of the event at which it dies
    late: int | None = None  # the rank that is a second late at every save
    stand_in: bool = False  # for vLLM's server (tests.engines.stand_in_server)
    count: bool = False  # what passes the decoder layers (tests.engines.passes)
    measure: bool = False  # print how much memory loading took, and how much of a frozen network is kept
    head_bytes: int | None = None  # of logits at a time
    editor: bool = False  # the traces' editor of `tests.trace_editor` is registered
    brought: bool | None = None  # what `zreward.training.engines` believes of the engine: that it brings the weights


class Launcher:
    """The process that forks."""

    def __init__(self) -> None:
        own = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true", "DS_ACCELERATOR": "cpu"}
        command = [sys.executable, "-m", "tests.engines.ranks"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | own
        )

    def launch(
        self, recipes: Mapping[str, Recipe], engine: str, ranks: int, folder: Path, **options: Any
    ) -> list[tuple[int, str]]:
        """Exit code and output of every process. Options are those of `Launch`."""
        folder.mkdir(parents=True, exist_ok=True)
        told = Launch(engine, ranks, str(folder), {name: asdict(one) for name, one in recipes.items()}, **options)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(asdict(told)) + "\n")
        self.process.stdin.flush()
        codes = json.loads(self.process.stdout.readline())
        return [(code, (folder / f"rank-{rank}.log").read_text()) for rank, code in enumerate(codes)]

    def train(self, recipes: Mapping[str, Recipe], engine: str, ranks: int, folder: Path, **options: Any) -> None:
        """What one of the processes fails with is raised."""
        for code, log in self.launch(recipes, engine, ranks, folder, **options):
            assert code == 0, log[-4000:]

    def close(self) -> None:
        self.process.communicate("")


def events_of(folder: Path, rank: int) -> list[str]:
    return (folder / f"events-{rank}.txt").read_text().split("\n")[:-1]


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


def _serve() -> None:
    import deepspeed  # noqa: F401

    import zreward.models.checkpoint
    import zreward.training.dry_run  # noqa: F401

    gc.freeze()
    for line in sys.stdin:
        told = Launch(**json.loads(line))
        Path(told.folder, "rendezvous").unlink(missing_ok=True)
        children = [_fork(told, rank) for rank in range(told.ranks)]
        print(json.dumps(_codes(children)), flush=True)


def _fork(told: Launch, rank: int) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        log = os.open(Path(told.folder, f"rank-{rank}.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _train(told, rank)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _codes(children: list[int]) -> list[int]:
    """Of every process. When one fails, the others have half a second before they are killed, as a launcher would."""
    codes: dict[int, int] = {}
    until = time.monotonic() + 3600  # ZeRO-3 on a busy machine
    while len(codes) < len(children):
        for child in set(children) - set(codes):
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                codes[child] = os.waitstatus_to_exitcode(status)
                if codes[child] != 0:
                    until = min(until, time.monotonic() + 0.5)
        if time.monotonic() > until:
            for child in set(children) - set(codes):
                os.kill(child, signal.SIGKILL)
            until += 60
        time.sleep(0.02)
    return [codes[child] for child in children]


def _train(told: Launch, rank: int) -> None:
    import torch
    from accelerate.state import AcceleratorState

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"} | ENGINES[told.engine] | told.environment
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(told.ranks)}
    torch.distributed.init_process_group("gloo", f"file://{told.folder}/rendezvous", rank=rank, world_size=told.ranks)
    _on_cpus(told.engine)
    if told.watch:
        _note_events(told, rank)
    if told.late == rank:
        _be_late()
    if told.measure:
        _measure_loading()
        _measure_frozen()
    if told.head_bytes is not None:
        import zreward.models.backbone

        zreward.models.backbone.HEAD_BYTES = told.head_bytes
    if told.editor:
        import pytest

        from tests import trace_editor

        trace_editor.install(pytest.MonkeyPatch())  # the process ends with it
    if told.brought is not None:
        from zreward.training import engines

        engines._brings_weights = lambda engine: told.brought
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    from zreward.common.config import config_from_dict
    from zreward.training.dry_run import dry_run
    from zreward.training.run import train

    passes = Watch() if told.count else None
    if told.stand_in:
        import zreward.sampling.sampler
        from tests.engines.stand_in_server import StandInServer

        zreward.sampling.sampler.ServerVllm = StandInServer
    for name, raw in told.recipes.items():
        print(f"--- {name}", flush=True)
        recipe = config_from_dict(Recipe, raw)
        if told.dry:
            print(dry_run(recipe), flush=True)
        else:
            train(recipe, resume=told.resume)
        if passes is not None:
            passes.write(recipe, rank)
        unset_hf_deepspeed_config()  # or the next model would be loaded as this run's configuration says
        assert AcceleratorState().distributed_type.value == KINDS[told.engine], "another engine than asked for"
    torch.distributed.destroy_process_group()


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
        communication = import_module("deepspeed.comm.torch")  # an import statement would find torch itself
        communication.build_shm_op = lambda: None  # its kernel for shared memory is not built


def _note_events(told: Launch, rank: int) -> None:
    """Write down what this rank does, and die where the launch says."""
    from tests.killing import watch

    file = os.open(Path(told.folder, f"events-{rank}.txt"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    count = -1

    def happened(name: str, before_death: Any = None) -> None:
        nonlocal count
        count += 1
        os.write(file, f"{name}\n".encode())
        if told.kill is not None and (rank, count) == tuple(told.kill):
            if before_death is not None:
                before_death()
            os.kill(os.getpid(), signal.SIGKILL)

    watch(told.watch, happened)


def _measure_loading() -> None:
    """From here to the moment when a trainer is built: the model is loaded, and nothing sharded."""
    import psutil

    from zreward.training import run

    build, process = run.build_trainer, psutil.Process()
    before = process.memory_info().rss

    def measured(*arguments: Any) -> Any:
        print(f"loading took {process.memory_info().rss - before} bytes", flush=True)
        return build(*arguments)

    run.build_trainer = measured


def _measure_frozen() -> None:
    from zreward.training import rollout

    place = rollout.place_frozen

    def measured(accelerator: Any, model: Any) -> None:
        place(accelerator, model)
        kept = {id(weight): _own_part(weight).numel() for weight in model.parameters()}
        print(f"of a frozen network {sum(kept.values())} weights are kept", flush=True)

    rollout.place_frozen = measured


def _own_part(weight: Any) -> Any:
    return weight.to_local() if hasattr(weight, "to_local") else getattr(weight, "ds_tensor", weight)


def _be_late() -> None:
    from transformers import Trainer

    for name in ("_save_checkpoint", "_save_rng_state"):
        method = getattr(Trainer, name)

        def late(self, *arguments, method=method):
            time.sleep(1)
            return method(self, *arguments)

        setattr(Trainer, name, late)


if __name__ == "__main__":
    _serve()
