"""Peak memory of scoring with a vocabulary of 248,320 words, beside a pass that makes all logits.

    python benchmarks/label_rows.py

A small model with Qwen3.5's vocabulary, two pictures, four dimensions each. Either way runs in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import torch
from memory import peak_mib, resident_mib
from PIL import Image

from zreward.models.reward_model import RewardModel
from zreward.models.rows import Row
from zreward.models.scratch import ScratchSpec, make_scratch
from zreward.world.base_models import world_rubric

VOCABULARY = 248_320
PICTURES, SIDE, PROMPT = 2, 96, "a dog near one old stone bridge"


def measure_label_rows() -> dict[str, float]:
    """{label_rows_mib, whole_logits_mib, logits_mib}: what either pass adds at its peak, and what T x V logits would take."""
    found = {}
    for way in ("label_rows", "whole_logits"):
        done = subprocess.run([sys.executable, __file__, way], capture_output=True, text=True, check=True)
        used, logits = map(float, done.stdout.split()[-2:])
        found |= {f"{way}_mib": used, "logits_mib": logits}
    return found


@torch.no_grad()
def main(way: str) -> None:
    model = build()
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(PICTURES)]
    names = model.rubric.dimension_names
    rows = [Row((n,), PROMPT, name) for n in range(PICTURES) for name in names]
    inputs = model.collate([model.open(picture) for picture in pictures], rows).to(model.device)
    before = resident_mib()
    if way == "label_rows":
        model.score(pictures, PROMPT)
    else:
        hidden = model.backbone.hidden_states(inputs)
        logits = model.backbone.base.get_output_embeddings()(hidden)
        logits[:, -1, model.backbone.label_ids].softmax(-1)
    print(peak_mib() - before, inputs.input_ids.numel() * VOCABULARY * 4 / 2**20)


def build() -> RewardModel:
    torch.manual_seed(0)
    model = make_scratch("qwen3_vl", ScratchSpec(), [PROMPT] * 2, world_rubric()).eval().requires_grad_(False)
    model.backbone.base.resize_token_embeddings(VOCABULARY, mean_resizing=False)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        print(measure_label_rows())
