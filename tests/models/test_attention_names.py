"""`attn_implementation`: refused before anything is loaded, passed on to transformers, and the same scores."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import noise_pictures, tiny_model
from zreward.common.errors import InputError
from zreward.models import attention_names
from zreward.models.attention import NAME
from zreward.models.attention_names import ATTENTIONS, check_attention
from zreward.models.reward_model import RewardModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attention") / "model"
    tiny_model().save_pretrained(folder)
    return folder


def implementations(model: RewardModel) -> tuple[str, str]:
    config = model.backbone.base.config
    return config.get_text_config()._attn_implementation, config.vision_config._attn_implementation


def test_it_is_passed_on_and_changes_no_score(folder):
    pictures = noise_pictures(3)
    default = RewardModel.from_pretrained(folder)
    expected = default.score(pictures, "a red circle").probs
    for name, text in (("eager", "eager"), ("sdpa", NAME)):
        model = RewardModel.from_pretrained(folder, attn_implementation=name)
        assert implementations(model) == (text, name)
        torch.testing.assert_close(model.score(pictures, "a red circle").probs, expected, rtol=1e-4, atol=1e-5)
    assert implementations(default) == (NAME, "sdpa")


def test_what_cannot_run_is_refused_before_anything_is_looked_for(monkeypatch):
    with pytest.raises(
        InputError, match="attn_implementation is 'flash'; expected one of sdpa, eager, flash_attention_2"
    ):
        RewardModel.from_pretrained("/nowhere", attn_implementation="flash")
    for name, package in (("flash_attention_2", "flash-attn"), ("flash_attention_3", "flash-attn-3")):
        missing = {name: (lambda: False, package)}
        monkeypatch.setattr(attention_names, "_FLASH", missing)
        with pytest.raises(InputError, match=f"is {name}, but {package} is not installed.*or choose sdpa"):
            RewardModel.from_pretrained("/nowhere", attn_implementation=name)
        missing[name] = (lambda: True, package)
        check_attention(name)
    for name in (None, "sdpa", "eager", "flex_attention"):
        check_attention(name)


def test_every_name_is_one_of_transformers():
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    assert set(ATTENTIONS) - {"eager"} <= set(ALL_ATTENTION_FUNCTIONS.valid_keys())
