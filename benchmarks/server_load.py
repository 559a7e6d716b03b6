"""A server with many clients, beside offline `score` of the same items: throughput and latency.

Used by benchmarks/student_scoring.py. The server runs in a process of its own, on the weights of the model that is timed.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image

from zreward.models.reward_model import RewardModel
from zreward.serving.client import RewardClient

CLIENTS, ITEMS, SIDE, BATCH = 32, 192, 256, 16


def measure_server(model: RewardModel, words: Sequence[str]) -> dict[str, float]:
    """{server_over_offline, server_items_per_second, server_p50_seconds, server_p99_seconds, server_worst_difference}."""
    rng = np.random.default_rng(1)
    pictures = [Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(ITEMS)]
    prompts = [" ".join(rng.choice(words, 60)) for _ in pictures]
    model.score(pictures[:BATCH], prompts[:BATCH], batch_size=BATCH)
    begin = time.perf_counter()
    expected = model.score(pictures, prompts, batch_size=BATCH).probs
    offline = time.perf_counter() - begin
    with serving(model) as url:
        client = RewardClient(url)
        client.score(pictures[:BATCH], prompts[:BATCH])

        def ask(n: int) -> tuple[float, torch.Tensor]:
            begin = time.perf_counter()
            probs = client.score([pictures[n]], prompts[n]).probs
            return time.perf_counter() - begin, probs

        begin = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as threads:
            answers = list(threads.map(ask, range(ITEMS)))
        served = time.perf_counter() - begin
    seconds = sorted(taken for taken, _ in answers)
    return {
        "server_over_offline": offline / served,
        "server_items_per_second": ITEMS / served,
        "server_p50_seconds": seconds[len(seconds) // 2],
        "server_p99_seconds": seconds[int(len(seconds) * 0.99)],
        "server_worst_difference": (torch.cat([probs for _, probs in answers]) - expected).abs().max().item(),
    }


@contextmanager
def serving(model: RewardModel) -> Iterator[str]:
    """The URL of `zreward serve` on a copy of the model."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(f"{folder}/model")
        command = [sys.executable, "-m", "zreward.cli", "serve", f"{folder}/model", "--port", "0"]
        command += ["--max-batch", str(BATCH), "--device", str(model.device)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        try:
            line = server.stdout.readline()  # printed when the model is ready
            yield line.split(" at ")[1].split(" (documentation")[0]
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(90)
