"""A model whose answers are NaN says so, with the item and the dimension, on every way in; nothing of it is passed on."""

from __future__ import annotations

import math

import pytest
import torch

from tests.tiny import noise_pictures, tiny_model
from zreward.common.errors import InputError, NotFiniteError
from zreward.data import Record
from zreward.distribution import ScoreDistribution
from zreward.evaluation.prediction import predict
from zreward.inference.bulk import score_data
from zreward.models.reward_model import RewardModel
from zreward.training.targets import LabelOptions, label

RED = 3  # the picture that the model cannot take


@pytest.fixture(scope="module")
def pictures():
    return noise_pictures(5, ((32, 32), (40, 24)))


@pytest.fixture(scope="module")
def broken() -> RewardModel:
    model = tiny_model(seed=1)
    with torch.no_grad():
        next(parameter for name, parameter in model.named_parameters() if "norm" in name).fill_(math.nan)
    return model


@pytest.fixture
def picky(monkeypatch) -> RewardModel:
    """It gives NaN for one picture alone, by its place in the call, whatever the batches: as overflow does."""
    model = tiny_model(seed=1)
    layout = type(model.layout)
    patchify = layout.patchify

    def poisoned(self, pixels):
        patches, grid = patchify(self, pixels)
        return (patches * math.nan if pixels[0, 0, 0] == 1 and pixels.mean() > 0.99 else patches), grid

    monkeypatch.setattr(layout, "patchify", poisoned)
    return model


@pytest.fixture(scope="module")
def with_white(pictures):
    from PIL import Image

    return [*pictures[:RED], Image.new("RGB", (32, 32), "white"), *pictures[RED:]]


@pytest.mark.parametrize("batch_size", [1, 2, 6])
def test_score_names_the_item_as_the_caller_counts(picky, with_white, batch_size, tmp_path):
    paths = [str(tmp_path / f"{n}.png") for n in range(len(with_white))]
    for picture, path in zip(with_white, paths, strict=True):
        picture.save(path)
    with pytest.raises(
        NotFiniteError, match=r"item 3 \(.*3\.png\), dimension 'alignment': the model gives NaN"
    ) as caught:
        picky.score(paths, "a red circle", batch_size=batch_size)
    assert (caught.value.item, caught.value.dimension) == (RED, "alignment")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("batch_size", [2, 6])
def test_judge_names_the_item_whether_it_samples_or_not(picky, with_white, temperature, batch_size):
    with pytest.raises(NotFiniteError) as caught:
        picky.judge(
            with_white, "a circle", traces=2, dimensions=["realism"], temperature=temperature, batch_size=batch_size
        )
    assert (caught.value.item, caught.value.dimension) == (RED, "realism")


def test_the_differentiable_call_raises_it_too(broken):
    with pytest.raises(NotFiniteError, match="item 0, dimension 'alignment'"):
        broken(torch.rand(2, 3, 32, 32), "a circle")


def test_evaluation_names_the_record(picky, with_white):
    records = [Record(f"prompt {n}", picture, {"realism": 3}, id=f"r{n}") for n, picture in enumerate(with_white)]
    for reasoning in (False, True):
        with pytest.raises(NotFiniteError, match=r"item 3 \(r3\), dimension 'realism'"):
            predict(picky, records, ["realism"], reasoning=reasoning, batch_size=2, progress=False)


@pytest.mark.parametrize("reasoning", [True, False])
def test_labelling_stops_without_a_shard_of_nan(picky, with_white, reasoning, tmp_path):
    records = [Record("a circle", picture) for picture in with_white]
    options = LabelOptions(reasoning=reasoning, shard_size=4, batch_size=2)
    with pytest.raises(NotFiniteError) as caught:
        label(picky, "picky", records, tmp_path / "targets", options)
    assert caught.value.item == RED
    assert not list((tmp_path / "targets").glob("*.parquet"))


def test_a_whole_data_set_is_not_scored_by_a_broken_model(broken, pictures, tmp_path):
    for n, picture in enumerate(pictures):
        picture.save(tmp_path / f"{n}.png")
    rows = [f'{{"prompt": "x", "image": "{n}.png"}}\n' for n in range(len(pictures))]
    (tmp_path / "d.jsonl").write_text("".join(rows))
    with pytest.raises(NotFiniteError):
        score_data(broken, tmp_path / "d.jsonl", tmp_path / "out.parquet", skip_bad=True)
    assert not (tmp_path / "out.parquet").exists()


def test_the_server_answers_with_500_and_the_reason(broken, pictures, tmp_path):
    import base64
    import io

    from fastapi.testclient import TestClient

    from zreward.serving.app import create_app
    from zreward.serving.settings import Settings

    file = io.BytesIO()
    pictures[0].save(file, "PNG")
    item = {"prompt": "x", "image": base64.b64encode(file.getvalue()).decode()}
    with TestClient(create_app(broken, "broken", Settings())) as client:
        answer = client.post("/v1/score", json={"items": [item]})
    assert answer.status_code == 500
    assert "the model gives NaN" in answer.json()["detail"]


def test_a_distribution_tells_nan_from_what_is_no_distribution():
    bins = torch.tensor([1.0, 2.0])
    with pytest.raises(NotFiniteError, match="item 1, dimension 'b'"):
        ScoreDistribution(torch.tensor([[[0.5, 0.5]] * 2, [[0.5, 0.5], [math.inf, 0.5]]]), bins, ("a", "b"))
    with pytest.raises(ValueError, match="expected non-negative numbers") as caught:
        ScoreDistribution(torch.tensor([[[0.7, 0.7]]]), bins, ("a",))
    assert not isinstance(caught.value, InputError)
