"""Good, same, bad: verdicts by hand, folders that do not match, and a model as a judge."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import noise_pictures
from zreward.common.errors import InputError
from zreward.generation.comparison import Comparison, compare, read_pairs
from zreward.generation.drawn import save_pictures
from zreward.generation.judges import Judge, load_judge
from zreward.generation.pages import describe_ending

PROMPTS = ("p", "p", "q", "q")


def comparison(**changes) -> Comparison:
    """Overall gains +.5, +.125, -.25, 0: good, same (under .25), bad (.25 is not under .25), same."""
    before = np.array([[2.0, 3.0], [2.0, 3.0], [4.0, 4.0], [1.0, 5.0]])
    gain = np.array([[1.0, 0.0], [0.0, 0.25], [-1.0, 0.5], [2.0, -2.0]])
    options = {"same": 0.25, "overall": ()} | changes
    return Comparison("somebody", ("alignment", "realism"), PROMPTS, before, before + gain, **options)


def test_verdicts_by_hand():
    found = comparison()
    assert found.outcomes() == ["good", "same", "bad", "same"]
    assert found.outcomes("realism") == ["same", "good", "good", "bad"]
    verdict = found.verdict("realism")
    assert {name: verdict[name] for name in ("gsb", "good", "same", "bad")} == {
        "gsb": 0.25,
        "good": 2,
        "same": 1,
        "bad": 1,
    }
    assert verdict["low"] <= 0.25 <= verdict["high"]
    assert comparison(overall=("alignment",)).outcomes() == ["good", "same", "bad", "good"]
    assert comparison(same=0.0).outcomes() == ["good", "good", "bad", "same"]
    assert comparison(same=1.0).outcomes() == ["same"] * 4
    before, after = found.means()
    assert (before["alignment"], after["alignment"]) == (2.25, 2.75)


def test_bad_comparisons_are_refused():
    with pytest.raises(InputError, match="unknown dimension 'beauty'; the judge has"):
        comparison(overall=("beauty",))
    with pytest.raises(InputError, match="same is -1"):
        comparison(same=-1)
    with pytest.raises(InputError, match="not finite"):
        Comparison("nobody", ("realism",), ("p",), np.array([[np.nan]]), np.array([[1.0]]))


def save(folder, prompts=("a", "b"), seeds=(1, 2), value=0.5):
    save_pictures(folder, torch.full((len(prompts) * len(seeds), 3, 4, 4), value), prompts, [seeds] * len(prompts))
    return folder


def test_folders_are_matched_by_prompt_and_seed(tmp_path):
    first, second = save(tmp_path / "a", value=0.0), save(tmp_path / "b", value=1.0)
    lines = (second / "pictures.jsonl").read_text().splitlines()
    (second / "pictures.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    pairs = read_pairs(first, second)
    assert pairs.prompts == ("a", "a", "b", "b") and pairs.seeds == (1, 2, 1, 2)

    def brightness(images, prompts):
        return np.array([[np.asarray(image).mean() / 255 * 4 + 1] for image in images])

    found = compare(Judge("light meter", ("brightness",), brightness), pairs)
    assert found.verdict()["gsb"] == 1.0 and found.after.tolist() == [[5.0]] * 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", "line 1: expected a JSON object with a text image"),
        ("not json", "line 1: expected a JSON object"),
        (json.dumps({"image": "../x.png", "prompt": "a", "seed": 1}), "is not in the folder"),
        (json.dumps({"image": "none.png", "prompt": "a", "seed": 1}), "no such image file"),
        ("", "lists no pictures"),
    ],
)
def test_bad_folders_are_refused(tmp_path, line, message):
    good, bad = save(tmp_path / "good", prompts=("a",), seeds=(1,)), tmp_path / "bad"
    bad.mkdir()
    (bad / "pictures.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match=message):
        read_pairs(good, bad)


def test_folders_that_do_not_match_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected a line for every picture"):
        read_pairs(tmp_path, tmp_path)
    with pytest.raises(InputError, match=r"only .*b has a picture of 'a' with seed 3 \(2 without a partner\)"):
        read_pairs(save(tmp_path / "a"), save(tmp_path / "b", seeds=(1, 2, 3)))


def test_a_reward_model_judges_both_ways():
    judge, reasoned = load_judge("world:small"), load_judge("world:small", reasoning=True)
    pictures, prompts = noise_pictures(2), ["a large red circle"] * 2
    direct, twice = judge(pictures, prompts), reasoned(pictures, prompts)
    assert direct.shape == twice.shape == (2, 4) and np.isfinite(twice).all()
    assert not np.allclose(direct, twice)
    assert np.array_equal(twice, reasoned(pictures, prompts))  # the same verdict twice


def test_pictures_must_be_as_many_as_prompts():
    with pytest.raises(InputError, match="1 pictures and 2 prompts"):
        load_judge("oracle")([Image.new("RGB", (32, 32))], ["a", "b"])


@pytest.mark.parametrize(
    ("guard", "judge", "words"),
    [
        (None, "runs/teacher", "went on to its last step, 40; no guard stopped it. The weights of step 20 are kept"),
        (
            "dimension",
            "runs/teacher",
            "stopped at step 40: the guard 'dimension', which reads the held-out judge runs/teacher",
        ),
        (
            "holdout",
            None,
            "stopped at step 40: the guard 'holdout', which reads the trained reward, found that realism fell",
        ),
        ("diversity", "runs/teacher", "stopped at step 40: the guard 'diversity', found that realism fell"),
    ],
)
def test_the_page_says_what_stopped_a_run_when_and_by_which_judge(guard, judge, words):
    assert words in describe_ending(20, 40, guard, "realism fell", judge)
