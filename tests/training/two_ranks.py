"""One of two processes that train together (gloo): python -m tests.training.two_ranks FOLDER RANK

Each compares the gradients that it steps along with the plain loop over all rows, its own and the other's.
"""

import os
import sys
from pathlib import Path

import pytest
import torch

from tests.plain_model import compute_in_float64
from tests.training import test_direct_oracle, test_rollout_oracle


def main(folder: Path, rank: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
    }  # accelerate asks for them; the meeting point is a file
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    monkeypatch = pytest.MonkeyPatch()
    compute_in_float64(monkeypatch)
    own = folder / str(rank)
    own.mkdir()
    # 7 rows of 4 pictures, two pictures a process; then a pair a process, with several backward passes a step.
    test_direct_oracle.compare(own, None, records=test_direct_oracle.UNEVEN, group_dimensions=True, batch=2)
    test_rollout_oracle.compare(own, monkeypatch, method="gdso", batch=1, sequences_per_forward=4)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
