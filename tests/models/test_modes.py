"""Modes for the length of a call, where calls overlap."""

from __future__ import annotations

import itertools

import pytest
from torch import nn

from zreward.models.modes import evaluation_mode, in_mode


@pytest.fixture
def network() -> nn.Sequential:
    made = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()), nn.Dropout())
    made[2].eval()
    return made


def modes(network: nn.Module) -> list[bool]:
    return [part.training for part in network.modules()]


@pytest.mark.parametrize("order", itertools.permutations(range(3)))
def test_the_last_call_to_end_brings_every_parts_own_mode_back(network, order):
    before = modes(network)
    assert True in before and False in before
    calls = [evaluation_mode(network), evaluation_mode(network[1]), evaluation_mode(network)]
    for call in calls:
        call.__enter__()
    for ended, number in enumerate(order):
        assert modes(network[1]) == [False] * 2
        if 1 in order[:ended]:
            assert modes(network) == [False] * 5
        calls[number].__exit__(None, None, None)
    assert modes(network) == before


@pytest.mark.parametrize("order", itertools.permutations(range(3)))
@pytest.mark.parametrize("ends", itertools.permutations(range(3)))
def test_a_module_that_is_recomputed_is_in_training_whoever_else_evaluates(network, order, ends):
    network.eval()
    calls = [evaluation_mode(network), in_mode([network[1]], training=True), evaluation_mode(network)]
    for entered, number in enumerate(order):
        calls[number].__enter__()
        assert network[1].training == (1 in order[: entered + 1])
        assert not network[1][0].training  # what is in it stays as it was
    for left, number in enumerate(ends):
        calls[number].__exit__(None, None, None)
        assert network[1].training == (1 not in ends[: left + 1])
    assert modes(network) == [False] * 5


def test_modes_come_back_after_an_error(network):
    before = modes(network)
    with pytest.raises(MemoryError), evaluation_mode(network):
        raise MemoryError
    assert modes(network) == before
