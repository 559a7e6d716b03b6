"""Jobs (`zreward.common.jobs`) on the workers of a Ray cluster: Ray Data hands them out, and starts a worker that died again.

A job whose worker died is done again by another one, which keeps the shards that are whole. The extra `ray` brings Ray.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from zreward.common.errors import InputError, shorten
from zreward.common.jobs import Job

DEATHS = 8  # of a worker, or in one job, after which Ray gives up
JOBS_A_WORKER = 8  # so that a fast worker takes some of a slow one's
Work = Callable[[Job], object]


def _patience() -> dict[str, int]:
    return {"max_restarts": DEATHS, "max_task_retries": DEATHS}


class _Worker:
    def __init__(self, make: Callable[[], Work], count: int) -> None:
        self.work, self.count = make(), count

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One job. What it refuses is handed on: Ray would put its own words around it."""
        try:
            self.work(Job(int(batch["id"][0]) + 1, self.count))
        except InputError as error:
            return batch | {"refused": [str(error)]}
        return batch | {"refused": [""]}


def run_jobs(make: Callable[[], Work], workers: int | None = None) -> int:
    """Do all jobs in so many processes of the cluster; each has a GPU of its own where the cluster has any.

    The cluster is the one that RAY_ADDRESS names, else one of this machine alone, for as long as the call lasts. Its
    machines see the same files under the same names.

    Args:
        make: called once in every worker; returns what does a job. It and its result are sent by pickle.
        workers: how many; default: one for each GPU of the cluster, or for each CPU where there is none.

    Returns:
        How many jobs there were.

    Raises:
        InputError: a RAY_ADDRESS at which no cluster is; more workers than the cluster has GPUs or CPUs; workers that die again
            and again; and what a job raises.
    """
    with _cluster() as ray:
        kind = "GPU" if ray.cluster_resources().get("GPU") else "CPU"
        room = int(ray.cluster_resources()[kind])
        workers = workers or room
        if workers > room:
            raise InputError(f"--workers {workers}: the Ray cluster has {room} {kind}s; expected at most {room}")
        count = workers * JOBS_A_WORKER
        needs: dict[str, Any] = {"num_gpus": 1} if kind == "GPU" else {"num_cpus": 1}
        jobs = ray.data.from_items([{"id": number} for number in range(count)], override_num_blocks=count)
        pool = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1)
        done = jobs.map_batches(
            _Worker,
            fn_constructor_args=(make, count),
            batch_size=1,
            compute=pool,
            ray_remote_args_fn=_patience,
            **needs,
        )
        try:
            for batch in tqdm(done.iter_batches(batch_size=1), total=count, desc="jobs", unit="job"):
                if batch["refused"][0]:
                    raise InputError(str(batch["refused"][0]))
        except ray.exceptions.RayActorError as error:
            raise InputError(
                f"workers of the Ray cluster died more than {DEATHS} times, out of memory perhaps; what is done is kept: repeat "
                f"the command with a smaller --batch-size or fewer --workers. Ray says: {str(error).splitlines()[-1][:300]}"
            ) from error
        return count


@contextmanager
def _cluster() -> Iterator[Any]:
    import ray
    import ray.data

    own = "RAY_ADDRESS" not in os.environ
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        ray.init(include_dashboard=False if own else None, log_to_driver=False, logging_level=logging.ERROR)
    except (ValueError, ConnectionError, RuntimeError) as error:
        where = "on this machine" if own else f"at RAY_ADDRESS={os.environ['RAY_ADDRESS']!r}"
        raise InputError(
            f"Ray does not start {where}: {shorten(str(error).strip(), 300)}; correct RAY_ADDRESS, or unset it"
        ) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars, context.raise_original_map_exception = False, True
    try:
        yield ray
    finally:
        ray.shutdown()
