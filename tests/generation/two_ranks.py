"""One of two processes that optimise together (gloo): python -m tests.generation.two_ranks FOLDER RANK

Writes per step what it drew the weights that it had, and the gradient that it stepped along.
"""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.generation.gradients import before_each_step, gradients, make_recipe, prepared
from tests.plain_model import compute_in_float64


def main(folder: Path, rank: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
    }  # accelerate asks for them; the meeting point is a file
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    monkeypatch = pytest.MonkeyPatch()
    compute_in_float64(monkeypatch)
    optimization, draws = prepared(make_recipe(folder), monkeypatch)
    assert optimization.accelerator.num_processes == 2
    drawn = []

    def look() -> None:
        ((prompts, seeds, walk),) = draws
        draws.clear()
        drawn.append([prompts, seeds, vars(walk)])
        save_file(gradients(optimization), folder / f"gradients-{rank}-{optimization.step}.safetensors")
        weights = {name: weight.detach().clone() for name, weight in optimization.adaptation.weights.items()}
        save_file(weights, folder / f"weights-{rank}-{optimization.step}.safetensors")

    with before_each_step(look):
        for optimization.step in range(2):
            optimization._train_step()
    (folder / f"draws-{rank}.json").write_text(json.dumps(drawn))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
