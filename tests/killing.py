"""Programs that kill themselves (-9) at a chosen place: no race, and no waiting for the right moment.

`python -m tests.killing` imports everything once and then forks a child for each command that it is told, so that twenty
kills cost twenty runs and not twenty starts of torch. In the child every file-system step inside the watched folder (by
Python's audit hook), every forward pass and every torch.save is an event; the child dies at the one that is asked for.
Nothing of this is in the product's code.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

FORWARD = "forward pass"
STEPS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "os.chmod"}


class Killer:
    """The process that forks. `run` starts a command; `events` are the names of what it did up to its end or its death."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.killing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[1],
        )

    def run(self, arguments: list[str], watch: Path, kill_at: int | None = None, shard: int = 512) -> list[str]:
        """Events until the end, which must be a good one, or until the kill."""
        events, log = self.folder / "events.txt", self.folder / "log.txt"
        events.write_text("")
        told = {"arguments": arguments, "watch": str(watch), "kill_at": kill_at, "shard": shard}
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(told | {"events": str(events), "log": str(log)}) + "\n")
        self.process.stdin.flush()
        code = int(self.process.stdout.readline())
        expected = 0 if kill_at is None else -signal.SIGKILL
        assert code == expected, f"{arguments} ended with {code}: {log.read_text()[-3000:]}"
        return events.read_text().split("\n")[:-1]

    def close(self) -> None:
        self.process.communicate("")


def chosen(events: list[str], kills: int) -> list[int]:
    """Event numbers to die at: half in forward passes, spread over the run, half in as many kinds of file-system steps."""
    passes = [n for n, event in enumerate(events) if event == FORWARD]
    kinds: dict[str, list[int]] = {}
    for n, event in enumerate(events):
        if event != FORWARD:
            kinds.setdefault(event, []).append(n)
    order = sorted(kinds.values(), key=lambda numbers: (not events[numbers[0]].startswith("half of"), len(numbers)))
    turns = [
        numbers[len(numbers) // 2 - turn] for turn in range(len(events)) for numbers in order if turn < len(numbers)
    ]
    spread = _spread(passes, min(len(passes), kills // 2))
    return sorted(spread + turns[: kills - len(spread)])


def _spread(numbers: list[int], count: int) -> list[int]:
    """`count` different ones."""
    return [numbers[(2 * n + 1) * len(numbers) // (2 * count)] for n in range(count)]


def said(places: list[str]) -> str:
    """How many kills fell where, for the test's output."""
    return ", ".join(f"{count} x {place}" for place, count in Counter(places).most_common())


def leftovers(folder: Path) -> list[str]:
    """Temporary names anywhere in a folder."""
    return [str(path) for path in folder.rglob("*") if path.name.startswith(".") or path.name.endswith(".tmp")]


def _child(told: dict[str, Any]) -> None:
    events = os.open(told["events"], os.O_WRONLY | os.O_APPEND)
    log = os.open(told["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    count = -1

    def happened(name: str, before_death: Any = None) -> None:
        nonlocal count
        count += 1
        os.write(events, f"{name}\n".encode())
        if count == told["kill_at"]:
            if before_death is not None:
                before_death()
            os.kill(os.getpid(), signal.SIGKILL)

    watch(told["watch"], happened)
    import zreward.inference.bulk
    from zreward.cli.main import main

    zreward.inference.bulk.SHARD = told["shard"]
    sys.argv = ["zreward", *told["arguments"]]
    main()


def watch(folder: str, happened: Any) -> None:
    import torch
    from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5TextModel

    def audit(event: str, arguments: tuple) -> None:
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        if event in STEPS or event == "open":
            paths = [str(a) for a in arguments[:2] if isinstance(a, str | Path) and str(a).startswith(folder)]
            if paths:
                happened(f"{event} {_plain(paths[-1])}")

    forward, save = Qwen3_5TextModel.forward, torch.save

    def counted(self, *arguments, **options):
        happened(FORWARD)
        return forward(self, *arguments, **options)

    def half(value, file, *arguments, **options):
        save(value, file, *arguments, **options)
        if not isinstance(file, str | os.PathLike):
            return  # what one process sends another
        size = os.path.getsize(file)
        happened(f"half of {Path(file).name}", lambda: os.truncate(file, size // 2))

    Qwen3_5TextModel.forward, torch.save = counted, half  # type: ignore[method-assign, assignment]
    sys.addaudithook(audit)


def _plain(path: str) -> str:
    """The last name without its numbers and random letters."""
    name = Path(path).name
    if name.startswith(".zreward-"):
        return "temporary folder"
    return "".join("#" if letter.isdigit() else letter for letter in name)


def _serve() -> None:
    import zreward.cli.main
    import zreward.generation.optimize
    import zreward.models.checkpoint
    import zreward.training.run
    import zreward.training.targets  # noqa: F401

    gc.freeze()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                _child(json.loads(line))
                code = 0
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve()
