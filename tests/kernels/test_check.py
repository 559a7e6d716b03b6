"""Kernels against float64: what is right is called right, and each planted fault is named."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5RMSNorm

from tests.kernels.planted import REFERENCE, plant
from tests.tiny import FAMILIES, tiny_model
from zreward.models.kernels.attention import attention
from zreward.models.kernels.check import check_kernels, use_right_kernels
from zreward.models.kernels.compare import Case, verdict_of
from zreward.models.kernels.discovery import find_kernels
from zreward.models.kernels.gated_delta import causal_convolution, gated_delta_rule

CPU = torch.device("cpu")
FORMATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kernels_of_this_machine_are_right(family):
    findings = check_kernels(find_kernels(tiny_model(family)), FORMATS, CPU)
    assert findings and all(one.verdict.is_right for one in findings), [str(one.verdict) for one in findings]


def test_what_each_family_uses():
    found = {(one.layer, one.name, one.implementation) for one in find_kernels(tiny_model())}
    assert found == {
        ("Qwen3_5VisionAttention", "attention", "sdpa"),
        ("Qwen3_5Attention", "attention", "sdpa"),
        ("Qwen3_5GatedDeltaNet", "chunk_gated_delta_rule", "torch"),
        ("Qwen3_5GatedDeltaNet", "fused_recurrent_gated_delta_rule", "torch"),
        ("Qwen3_5GatedDeltaNet", "causal_conv1d_fn", "torch"),
        ("Qwen3_5GatedDeltaNet", "causal_conv1d_update", "torch"),
    }
    assert [(one.layer, len(one.replacements)) for one in find_kernels(tiny_model("llava"))] == [
        ("CLIPAttention", 2),
        ("LlamaAttention", 2),
    ]


@pytest.mark.parametrize(
    ("fault", "verdict", "reason"),
    [
        ("gradient", "wrong", "gradient of query; 5 tokens"),
        ("state", "wrong", "gradient of initial state; 5 tokens"),
        ("raises", "refuses", "RuntimeError: this card produces incorrect results; 5 tokens"),
        ("nan", "NaN", "output, gradient of query"),
    ],
)
def test_planted_faults_are_named(fault, verdict, reason, monkeypatch):
    plant(monkeypatch, fault)
    findings = check_kernels(find_kernels(tiny_model()), (torch.float32, torch.bfloat16), CPU)
    bad = [one for one in findings if not one.verdict.is_right]
    assert {one.kernel.name for one in bad} == {"chunk_gated_delta_rule"} and len(bad) == 2
    assert all(one.verdict.kind == verdict and reason in str(one.verdict) for one in bad)
    assert bad[0].kernel.implementation == "fla.ops.gated_delta_rule"
    if fault == "gradient":
        assert bad[0].verdict.difference == pytest.approx(0.2, abs=1e-4)


def test_a_right_kernel_of_a_package_stays(monkeypatch, recwarn):
    plant(monkeypatch, "right")
    findings = use_right_kernels(tiny_model(), [torch.float32], CPU)
    assert [(one.kernel.name, one.verdict.kind) for one in findings] == [("chunk_gated_delta_rule", "right")]
    assert not recwarn.list and find_kernels(tiny_model())[4].implementation == "fla.ops.gated_delta_rule"


def test_nothing_is_checked_on_a_cpu_with_pytorch_alone(cache):
    assert use_right_kernels(tiny_model(), [torch.float32], CPU) == [] and not cache.exists()


def test_a_kernel_is_replaced_in_the_formats_that_it_fails_alone():
    """One that refuses float32, as flash kernels do, goes on in bfloat16."""
    from transformers.models.qwen3_5 import modeling_qwen3_5 as home

    def picky(query, *others, **options):
        if query.dtype == torch.float32:
            raise TypeError("no float32")
        calls.append(query.dtype)
        return REFERENCE(query, *others, **options)

    calls: list[torch.dtype] = []
    earlier = home.torch_chunk_gated_delta_rule
    home.torch_chunk_gated_delta_rule = picky
    picky.__wrapped__ = REFERENCE
    try:
        for _ in range(2):  # what was replaced before is found again
            with pytest.warns(UserWarning, match="chunk_gated_delta_rule of Qwen3_5GatedDeltaNet .* no float32"):
                use_right_kernels(tiny_model(), [torch.float32, torch.bfloat16], CPU)
        calls.clear()
        x = {name: torch.rand(1, 3, 2, 16) for name in ("query", "key", "value")}
        g, beta = -torch.rand(1, 3, 2), torch.rand(1, 3, 2)
        home.torch_chunk_gated_delta_rule(*x.values(), g=g, beta=beta)
        assert not calls
        home.torch_chunk_gated_delta_rule(*(value.bfloat16() for value in x.values()), g=g, beta=beta.bfloat16())
        assert calls == [torch.bfloat16]
    finally:
        home.torch_chunk_gated_delta_rule = earlier


def test_an_attention_implementation_that_is_wrong_gives_way_to_eager(monkeypatch):
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    def unmasked(module, query, key, value, mask, **options):
        return sdpa_attention_forward(module, query, key, value, None, **options)

    mapping = AttentionInterface._global_mapping
    monkeypatch.setitem(mapping, "forgetful", unmasked)
    monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, "forgetful", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model = tiny_model("llava")
    network = model.backbone.model
    network.config._attn_implementation = "forgetful"
    with pytest.warns(UserWarning, match="attention of LlamaAttention .forgetful. fails its check: .*with padding"):
        use_right_kernels(model.backbone, [torch.float32], CPU)
    assert network.config.text_config._attn_implementation == "eager"
    assert network.config.vision_config._attn_implementation == "forgetful"  # images have no padding: right there


def test_a_norm_that_was_replaced_on_its_module():
    norm = Qwen3_5RMSNorm(8)
    holder = nn.Sequential(norm, Qwen3_5RMSNorm(8))
    assert find_kernels(holder) == []
    norm.forward = lambda x: Qwen3_5RMSNorm.forward(norm, x) * 1.5
    with pytest.warns(UserWarning, match="kernel norm of Qwen3_5RMSNorm"):
        use_right_kernels(holder, [torch.float32], CPU)
    assert "forward" not in vars(norm)
    norm = holder[0] = Qwen3_5RMSNorm(12)  # of another width: a verdict is kept by module and size
    norm.forward = lambda x: Qwen3_5RMSNorm.forward(norm, x)
    (finding,) = use_right_kernels(holder, [torch.float32], CPU)
    assert finding.verdict.is_right and "forward" in vars(norm)


def test_the_references_are_those_of_torch():
    """Attention and convolution; the rule's reference is compared with transformers' own in every other test."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 6, 4, dtype=torch.float64) for heads in (4, 2, 2))
    seen = torch.ones(6, 6, dtype=torch.bool).tril().expand(2, 6, 6)
    expected = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    assert torch.allclose(attention(query, key, value, seen, 0.5).transpose(1, 2), expected)
    hidden, weight = torch.randn(2, 3, 7, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    padded = nn.functional.pad(hidden, (3, 0))
    assert torch.allclose(
        causal_convolution(hidden, weight, "silu"),
        nn.functional.silu(nn.functional.conv1d(padded, weight[:, None], groups=3)),
    )


def test_one_step_of_the_rule_by_hand():
    """K = V = 1: k and q become 1; S = 2 exp(-log 2) = 1; S + .5 (3 - 1) = 2; the output is S."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64) * 1e6
    half = torch.full((1, 1, 1), 0.5, dtype=torch.float64)
    state = torch.full((1, 1, 1, 1), 2.0, dtype=torch.float64)
    output, after = gated_delta_rule(one, one, one * 3e-6, half.log(), half, state)
    assert output.item() == pytest.approx(2) and after.item() == pytest.approx(2)


def test_a_gradient_that_is_missing_is_wrong():
    x = torch.ones(2, dtype=torch.float64)
    reference = lambda v: [v["x"] * 2 + v["y"]]  # noqa: E731
    case = Case("two", {"x": x, "y": x}, lambda v: [v["x"].detach() * 2 + v["y"]], reference, ("z",), ("x", "y"))
    verdict = verdict_of([case], torch.float32, CPU)
    assert (verdict.kind, verdict.difference, verdict.reason) == ("wrong", 1.0, "gradient of x; two")
