"""The reward as a policy-gradient trainer calls it: the same numbers as the differentiable one."""

import numpy as np
import pytest
import torch

from tests.tiny import sharpen, tiny_model
from zreward.common.errors import InputError
from zreward.generation import Aggregate, reward_function

PROMPTS = ["a large red circle", "a small blue cross", "a small red cross"]


@pytest.fixture(scope="module")
def student():
    return sharpen(tiny_model())


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_the_function_gives_the_differentiable_reward(student, batch_size):
    pixels = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    aggregate = Aggregate("worst", weights={"alignment": 2.0, "realism": 1.0})
    fn = reward_function(student, aggregate, batch_size=batch_size)
    scores, extra = fn(pixels, PROMPTS, [{}] * 3)
    assert scores == pytest.approx(aggregate(student(pixels, PROMPTS)).tolist(), abs=1e-5) and extra == {}
    assert all(type(score) is float for score in scores)
    assert fn(np.asarray(pixels), PROMPTS, None)[0] == pytest.approx(scores, abs=1e-6)


def test_bad_calls_are_refused(student):
    with pytest.raises(InputError, match="needs a reference picture"):
        reward_function(student, Aggregate("beats"))
    with pytest.raises(InputError, match="unknown dimension 'beauty'"):
        reward_function(student, Aggregate(weights={"beauty": 1.0}))
    fn = reward_function(student)
    with pytest.raises(InputError, match="for 3 prompts"):
        fn(torch.rand(2, 3, 32, 32), PROMPTS, None)
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        fn(torch.rand(3, 3, 32, 32) * 255, PROMPTS, None)
