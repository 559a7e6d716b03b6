"""Verdicts are kept for one environment: another version, or a file that cannot be trusted, is checked anew."""

from __future__ import annotations

import json

import pytest
import torch

from tests.kernels.planted import plant
from tests.tiny import tiny_model
from zreward.models.kernels import check
from zreward.models.kernels.compare import NAN, REFUSES, RIGHT, WRONG, Verdict
from zreward.models.kernels.discovery import find_kernels
from zreward.models.kernels.environment import environment
from zreward.models.kernels.verdict_cache import VerdictCache

CPU = torch.device("cpu")
FACTS = {"torch": "2.13.0", "triton": None}
VERDICTS = {
    "a": Verdict(RIGHT, 1e-6),
    "b": Verdict(WRONG, 0.25, "gradient of key"),
    "c": Verdict(NAN, None, "output"),
    "d": Verdict(REFUSES, None, "RuntimeError: no"),
    "e": Verdict(WRONG, float("inf"), "output"),
}


@pytest.fixture
def checks(monkeypatch):
    """The number formats in which a kernel was tried."""
    tried = []

    def counted(cases, number_format, device):
        tried.append(number_format)
        return Verdict(RIGHT, 0.0)

    monkeypatch.setattr(check, "verdict_of", counted)
    return tried


def run(formats=(torch.float32,), **options):
    kernels = find_kernels(tiny_model("llava"))
    return check.check_kernels(kernels, formats, CPU, **options)


def test_verdicts_come_back_as_they_were():
    VerdictCache(FACTS).put(VERDICTS)
    again = VerdictCache(FACTS)
    assert {key: again.get(key) for key in VERDICTS} == VERDICTS and again.get("other") is None


def test_a_second_run_checks_nothing(checks):
    first = run()
    assert len(checks) == 2 and len(run()) == len(first) == 2
    assert len(checks) == 2
    run((torch.float32, torch.bfloat16))
    assert checks[2:] == [torch.bfloat16] * 2
    run(again=True)
    assert len(checks) == 6


@pytest.mark.parametrize("changed", ["torch", "triton", "fla-core", "card", "driver"])
def test_another_version_is_another_environment(changed, checks, monkeypatch):
    run()
    facts = environment(CPU) | {changed: "another"}
    monkeypatch.setattr(check, "environment", lambda device: facts)
    run()
    assert len(checks) == 4


def test_tf32_is_another_environment(checks, monkeypatch):
    run()
    monkeypatch.setattr(check, "tf32_allowed", lambda: {"matmul": True, "convolution": True})
    run()
    assert len(checks) == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"schema": 1}',
        "OTHER ENVIRONMENT",
        '{"a": {"kind": "fine", "difference": 0.0, "reason": ""}}',
        '{"a": {"kind": "right", "difference": null, "reason": ""}}',
        '{"a": {"kind": "right", "difference": 0.0, "reason": 1}}',
        '{"a": {"kind": "right"}}',
        '{"a": 1}',
        "[1]",
    ],
)
def test_a_file_that_cannot_be_trusted_counts_for_nothing(text):
    """Cut off, of another schema or environment, or with verdicts that nobody wrote."""
    cache = VerdictCache(FACTS)
    cache.put(VERDICTS)
    whole = json.loads(cache.path.read_text())
    if text == "OTHER ENVIRONMENT":
        text = json.dumps(whole | {"environment": {"torch": "1.0"}})
    elif text[:4] in ('{"a"', "[1]"):
        text = json.dumps(whole | {"verdicts": json.loads(text)})
    cache.path.write_text(text)
    assert VerdictCache(FACTS).get("a") is None
    VerdictCache(FACTS).put({"a": Verdict(RIGHT, 0.5)})
    assert VerdictCache(FACTS).get("a") == Verdict(RIGHT, 0.5)


def test_a_disk_that_refuses_costs_no_run(checks, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(run()) == 2


def test_a_full_card_is_no_verdict_for_ever(monkeypatch):
    monkeypatch.setattr(check, "verdict_of", lambda *_: Verdict(REFUSES, None, "OutOfMemoryError: CUDA out of memory"))
    run()
    monkeypatch.setattr(check, "verdict_of", lambda *_: Verdict(RIGHT, 0.0))
    assert all(one.verdict.is_right for one in run())


def test_a_planted_fault_is_remembered(monkeypatch):
    plant(monkeypatch, "nan")
    for _ in range(2):
        with pytest.warns(UserWarning, match="chunk_gated_delta_rule .*NaN"):
            check.use_right_kernels(tiny_model(), [torch.float32], CPU)
        plant(monkeypatch, "nan")
        monkeypatch.setattr(check, "verdict_of", None)  # nothing is tried a second time
