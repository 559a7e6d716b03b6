"""Run a study's tasks, several in parallel, continuing an earlier run; then write its tables and figures.

Every task runs in a process of its own with its share of the cores and its log in OUT/logs. A task holds a lock while it
runs, so that a study which was killed and started again never works on the same folder twice at once.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

from zreward.common.errors import InputError
from zreward.common.runs import RunDirectory, say
from zreward.world.reproduce import plan, tasks
from zreward.world.reproduce.plan import StudyPlan, StudyTask

POLL_SECONDS = 0.5


def reproduce(study: StudyPlan, jobs: int = 1) -> Path:
    """Do what is missing of the study, `jobs` tasks side by side; returns the page with its tables and figures.

    Raises InputError when `study.out` holds another study, or when a task fails (its log is named; the rest is kept).
    """
    if jobs < 1:
        raise InputError(f"reproduce: jobs is {jobs}, expected 1 or more")
    _claim(study)
    todo = [task for task in plan.tasks(study) if not tasks.done(study, task)]
    if not todo:
        say(f"{study.out}: all tasks are finished: nothing to do but its tables")
    minutes = sum(task.minutes for task in todo)
    print(f"{len(todo)} tasks, about {minutes:.0f} minutes of one core, {minutes / jobs:.0f} with {jobs} side by side")
    _run_all(study, todo, jobs)
    from zreward.world.reproduce.results import write_results

    return write_results(study)


def _claim(study: StudyPlan) -> None:
    """Make the folder this study's, or check that it is."""
    run = RunDirectory(study.out, "study.json", "--out")
    if run.is_started:
        run.check(study.fixed(), resume=True)
    elif run.is_in_use:
        raise InputError(f"{study.out} is not empty and holds no study; choose another --out")
    else:
        study.out.mkdir(parents=True, exist_ok=True)
        run.start(study.fixed())


def _run_all(study: StudyPlan, todo: list[StudyTask], jobs: int) -> None:
    waiting = {task.name: task for task in todo}
    running: dict[str, subprocess.Popen[bytes]] = {}
    threads = threads_each(jobs)
    shown = "{l_bar}{bar}| {n:.0f}/{total:.0f} min of one core [{elapsed}<{remaining}{postfix}]"
    with tqdm(total=sum(task.minutes for task in todo), desc="study", bar_format=shown) as bar:
        try:
            while waiting or running:
                for name, process in list(running.items()):
                    if process.poll() is not None:
                        del running[name]
                        task = next(task for task in todo if task.name == name)
                        if process.returncode or not tasks.done(study, task):
                            raise InputError(f"reproduce: {name} failed; see {_log(study, task)}")
                        bar.update(task.minutes)
                free = [task for task in waiting.values() if not set(task.needs) & (waiting.keys() | running.keys())]
                for task in free[: jobs - len(running)]:
                    del waiting[task.name]
                    running[task.name] = _start(study, task, threads)
                bar.set_postfix_str(", ".join(running))
                time.sleep(POLL_SECONDS)
        finally:
            for process in running.values():
                process.terminate()


def threads_each(jobs: int) -> int:
    """A fair share of the cores that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // jobs)


def _start(study: StudyPlan, task: StudyTask, threads: int) -> subprocess.Popen:
    log = _log(study, task)
    log.parent.mkdir(parents=True, exist_ok=True)
    settings = json.dumps(study.to_dict())
    with log.open("a") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "zreward.world.reproduce.runner", settings, task.name],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )


def _log(study: StudyPlan, task: StudyTask) -> Path:
    return study.out / "logs" / f"{task.name}.log"


def _work(settings: str, name: str) -> None:
    """In the task's own process: wait for its lock, do it unless it is done by now."""
    study = StudyPlan.from_dict(json.loads(settings))
    task = next(task for task in plan.tasks(study) if task.name == name)
    locks = study.out / "locks"
    locks.mkdir(exist_ok=True)
    with (locks / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tasks.done(study, task):
            tasks.perform(study, task)


if __name__ == "__main__":
    _work(*sys.argv[1:])
