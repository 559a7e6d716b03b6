"""What one CUDA card does with the architecture of Qwen3.5-9B (random weights, bfloat16): a row for each figure, one JSON file.

    python benchmarks/gpu.py --json FILE [--minutes 8] [--before TREE] [--only ROW,ROW] [--list]
    python benchmarks/gpu.py --tiny --device cpu                                   # every row in a minute, on any machine

Pictures of 1,024 px, prompts of 40 words, the shipped rubric and default prompt forms, no network. Rows go from the most to
the least important; each is printed, and added to the file, when it is done. A row that fails (memory, a kernel that refuses)
is recorded as {"error": text}. When the minutes, counted from the start of the process, are spent, the row that runs is
stopped and the rest is recorded as {"skipped": text}. Times are medians after a warm-up; memory is what tensors take, at most.

    environment     card, driver, versions, TF32
    peak            TFLOP/s of matrix products
    tokens          at the first decoder layer, for a picture
    score_N         N pictures, four dimensions
    four_over_one   four dimensions over one, 32 pictures
    bare_forward    the model alone, and `score` over it
    label           from files, without reasoning
    judge           32 traces of 256 tokens
    kernel_check    verdicts; kernels that are not right are replaced in all rows that follow
    gradient_...    to the pixels, with each choice of `memory`; GiB a picture above what was in use before
    gdso_step       the 27 B recipe's step with LoRA on this model: one pair, G = 8, traces of 128 tokens
    risd_step       the 9 B recipe's step with LoRA: four rows
    before          rows of scores and gradients with the code of another checkout (07f77a1 or later), in a process of its own

`--tiny` is the same architecture with few and narrow layers, and small pictures: it tells whether rows run, not how fast.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import gpu_rows
import torch
from gpu_model import NINE_B, TINY, Bench
from gpu_rows import Rows
from row_runner import RowRunner

import zreward

SPARE = 10  # seconds, for another tree's process to end in


def environment(bench: Bench) -> dict[str, Any]:
    from zreward.models.kernels.environment import environment
    from zreward.models.precision import set_tf32, tf32_allowed

    set_tf32(False)  # as where a model is loaded
    facts = {name: value for name, value in environment(bench.device).items() if value}
    return facts | {"python": sys.version.split()[0], "tf32": tf32_allowed()}


def peak(bench: Bench) -> dict[str, Any]:
    from zreward.models.kernels.peak import matrix_peak

    return {
        f"tflops_{str(one).removeprefix('torch.')}": matrix_peak(one, bench.device)
        for one in (torch.bfloat16, torch.float32)
    }


def before(bench: Bench, options: argparse.Namespace, runner: RowRunner) -> dict[str, Any]:
    """The rows of another tree, which are printed as they are done."""
    bench.free()
    tree, file = options.before.resolve(), bench.folder / "before.json"
    minutes = (runner.left - SPARE) / 60
    command = [sys.executable, __file__, "--only", ",".join(gpu_rows.SCORING | gpu_rows.KEPT), "--json", str(file)]
    command += ["--device", options.device, "--minutes", str(minutes), *["--tiny"] * options.tiny]
    print(f"with the code in {tree}:", flush=True)
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(tree)}, check=True)
    found = json.loads(file.read_text())
    if not Path(found["code"]).is_relative_to(tree):
        raise ValueError(f"{found['code']} was measured, expected the code in {tree}")
    return {"rows": found["rows"]}


def all_rows() -> Rows:
    """Inference first: `kernel_check` may replace kernels that are right forward and wrong backward."""
    if not gpu_rows.TODAY:
        return gpu_rows.SCORING | gpu_rows.KEPT
    import gpu_training

    inference: Rows = {"bare_forward": gpu_rows.bare_forward, "label": gpu_training.label, "judge": gpu_training.judge}
    training: Rows = {"gdso_step": gpu_training.gdso, "risd_step": gpu_training.risd}
    four, one = (gpu_rows.gradients(count, gpu_rows.CHOICES) for count in (4, 1))
    check: Rows = {"kernel_check": gpu_rows.right_kernels}
    return {"environment": environment, "peak": peak} | gpu_rows.SCORING | inference | check | four | training | one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--before", type=Path, metavar="TREE", help="a checkout whose code is measured too")
    parser.add_argument("--only", help="rows, separated by commas; default all")
    parser.add_argument("--list", action="store_true", help="print the names of all rows")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    rows = all_rows()
    if options.list:
        print("\n".join(rows))
        return
    wanted = options.only.split(",") if options.only else list(rows)
    unknown = [name for name in wanted if name not in rows]
    if unknown:
        parser.error(f"no rows {unknown}; --list names all")
    facts = {"code": zreward.__file__, "device": options.device, "tiny": options.tiny}
    runner = RowRunner(60 * options.minutes, options.json, facts)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(TINY if options.tiny else NINE_B, torch.device(options.device), Path(folder))
        for name in wanted:
            runner.run(name, partial(rows[name], bench))
        if options.before:
            runner.run("before", lambda: before(bench, options, runner))


if __name__ == "__main__":
    main()
