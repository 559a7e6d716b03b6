"""The server's two lanes on one GPU: their scores are the model's, also when both run at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from tests.serving.running import running
from tests.tiny import noise_pictures, tiny_model
from zreward.serving.client import RewardClient

SHORT, LONG = "a red circle", "red " * 300


def test_both_lanes_at_once_give_the_scores_of_the_model():
    model = tiny_model().to("cuda")
    pictures = noise_pictures(4)
    expected = {prompt: model.score(pictures, prompt).probs for prompt in (SHORT, LONG)}
    with running(model) as url, RewardClient(url, chunk=1) as client, ThreadPoolExecutor(4) as threads:
        answers = [(prompt, threads.submit(client.score, pictures, prompt)) for prompt in (SHORT, LONG) * 4]
        for prompt, answer in answers:
            assert torch.allclose(answer.result(60).probs, expected[prompt], atol=1e-3)
