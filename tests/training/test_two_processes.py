"""Two processes on the CPU train as one: they step along the gradient of all rows."""

from pathlib import Path

import pytest

from tests.training import test_direct_oracle, test_rollout_oracle
from tests.two_ranks import together


def step(folder: Path, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rank compares the gradients that it steps along with the plain loop over all rows, its own and the other's."""
    own = folder / str(rank)
    own.mkdir()
    # 7 rows of 4 pictures, two pictures a process; then a pair a process, with several backward passes a step.
    test_direct_oracle.compare(own, None, records=test_direct_oracle.UNEVEN, group_dimensions=True, batch=2)
    test_rollout_oracle.compare(own, monkeypatch, method="gdso", batch=1, sequences_per_forward=4)
    votes = folder / f"{rank} votes"  # one process has the pair with scores, the other the one with votes
    votes.mkdir()
    test_rollout_oracle.compare(votes, monkeypatch, method="gdso", batch=1, sequences_per_forward=4, votes=0.4)


def test_two_processes_step_along_the_gradient_of_all_rows(tmp_path):
    together(step, tmp_path)
