"""Today's code beside that of an earlier commit, and beside TRL's trainer: `score` of four dimensions, a whole GDSO step.

    python benchmarks/against.py 07f77a1 [--parts score,step,trl] [--family qwen3_5,qwen3_vl,llava] [--image-tokens 256]
        [--vision-layers 6] [--rounds 5] [--steps 2] [--json FILE]

The commit is unpacked into a temporary folder. Each side runs in a process of its own (`one_side.py`) and builds the same model
(about 20 M parameters, random weights of one seed) with its own default prompt forms and the shipped rubric; they take
turns. A step is roll-out and update: one pair, G = 8, traces of exactly 64 tokens. Times are CPU seconds of one thread: the
fastest call of `score`, the median step. The first round, and the first step of a turn, are not counted. TRL's
GRPOTrainer (extra `trl`) samples as many traces of the same pictures and questions.
The JSON file is a flat map {FAMILY_FIGURE: number}.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = "qwen3_5,qwen3_vl,llava"


class Side:
    """A process that measures one tree's code."""

    def __init__(self, tree: Path, log: Path) -> None:
        self.log = log
        own = {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, str(ROOT / "benchmarks" / "one_side.py")]
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | own
            )
        code = Path(self._answer()["code"])
        if not code.is_relative_to(tree):
            raise SystemExit(f"{code} is imported, expected the code in {tree}")

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.log} ends with\n{self.log.read_text()[-3000:]}")
        return json.loads(line)


@contextmanager
def two_sides(commit: str) -> Iterator[dict[str, Side]]:
    """The commit's code and today's."""
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(["git", "archive", commit, "zreward"], cwd=ROOT, check=True, capture_output=True).stdout
        tree = Path(folder).resolve() / "then"
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(tree, filter="data")
        sides = {"then": Side(tree, Path(folder, "then.log")), "now": Side(ROOT, Path(folder, "now.log"))}
        try:
            yield sides
        finally:
            for side in sides.values():
                side.process.kill()
                side.process.wait()


def in_turns(wanted: dict[str, tuple[Side, str]], rounds: int, **request: Any) -> dict[str, list[dict[str, Any]]]:
    """The answers of every counted round; the first warms up. Every other round goes backwards."""
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted}
    for number in range(rounds + 1):
        for name, (side, what) in list(wanted.items())[:: -1 if number % 2 else 1]:
            answer = side.ask(what=what, **request)
            if number:
                answers[name].append(answer)
    return answers


def score_figures(sides: dict[str, Side], rounds: int, **request: Any) -> dict[str, float]:
    answers = in_turns({name: (side, "score") for name, side in sides.items()}, rounds, **request)
    seconds = {name: min(each["seconds"][0] for each in mine) for name, mine in answers.items()}
    return {"score_over_then": seconds["now"] / seconds["then"], "score_seconds": seconds["now"]}


def step_figures(sides: dict[str, Side], rounds: int, trl: bool, **request: Any) -> dict[str, float]:
    wanted = {name: (side, "step") for name, side in sides.items()}
    if trl:
        wanted["trl"] = (sides["now"], "trl")
    answers = in_turns(wanted, rounds, **request)
    figures: dict[str, float] = {}
    for name, mine in answers.items():
        figures[f"step_seconds_{name}"] = statistics.median(each for one in mine for each in one["seconds"])
        for what in ("trace_tokens", "rollout_tokens", "update_tokens"):
            figures[f"{what}_{name}"] = statistics.mean(one[what] for one in mine)
    lengths = {name: figures[f"trace_tokens_{name}"] for name in answers}
    if max(lengths.values()) > 1.03 * min(lengths.values()):
        raise SystemExit(f"traces are unequally long, so their times say nothing: {lengths}")
    others = [name for name in answers if name != "now"]
    return {
        f"step_over_{name}": figures["step_seconds_now"] / figures[f"step_seconds_{name}"] for name in others
    } | figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit", help="with which to compare")
    parser.add_argument("--parts", default="score,step,trl", help="trl: beside the steps")
    parser.add_argument("--family", default=FAMILIES)
    parser.add_argument("--image-tokens", type=int, default=256, help="a square number")
    parser.add_argument("--vision-layers", type=int, default=6, help="1: the tower's share of the work in Qwen3-VL-8B")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="counted in a turn")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, float] = {}
    with two_sides(options.commit) as sides:
        for family in options.family.split(","):
            request = {"family": family, "image_tokens": options.image_tokens, "vision_layers": options.vision_layers}
            figures: dict[str, float] = {}
            if "score" in options.parts:
                figures |= score_figures(sides, options.rounds, **request)
            if "step" in options.parts:
                trl = "trl" in options.parts and find_spec("trl") is not None
                figures |= step_figures(sides, options.rounds, trl, steps=options.steps, **request)
            for name, value in figures.items():
                print(f"{family:10} {name:28} {value:,.3f}", flush=True)
            found |= {f"{family}_{name}": value for name, value in figures.items()}
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
