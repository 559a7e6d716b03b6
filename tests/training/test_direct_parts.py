"""The direct trainer's parts: what a batch holds, which pictures are opened, what is drawn, which loss stops the run."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import noise_pictures, tiny_model
from zreward.common.runs import RunDirectory
from zreward.data import Record
from zreward.models.rollout import Trace
from zreward.training.augment import drop_words, flip_and_shift
from zreward.training.direct import LOSSES, DirectItem, DirectItems, DirectTrainer
from zreward.training.recipe import DIRECT_METHODS
from zreward.training.trainer_base import WEIGHT

PICTURES = noise_pictures(3, ((32, 32), (32, 16), (16, 32)))
A, B, C = (Record(f"a red circle {n}", picture, {}) for n, picture in enumerate(PICTURES))
CHAIN = (3, Trace((5, 6), truncated=False))


def item(record: Record, name: str, level: float, **fields) -> DirectItem:
    return DirectItem(record, name, torch.tensor([level, 1 - level]), **fields)


@pytest.fixture
def make_trainer(make_recipe, tmp_path):
    """make_trainer(items, **data options) -> a trainer, and a list of the pictures that it opens from then on."""

    def make(items: list[DirectItem], **data) -> tuple[DirectTrainer, list]:
        model, opened = tiny_model(), []
        decode = model.decode
        model.decode = lambda image: opened.append(image) or decode(image)
        recipe = make_recipe("sft", **{f"data__{name}": value for name, value in data.items()})
        return DirectTrainer(model, recipe, RunDirectory(tmp_path / "run"), items), opened

    return make


def test_a_batch_shows_every_picture_of_a_group_once(make_trainer):
    items = [
        item(A, "realism", 0.1, reference=B),
        item(C, "realism", 0.2, explanation=CHAIN),
        item(A, "alignment", 0.3, reference=B),
    ]
    trainer, opened = make_trainer(items, group_dimensions=True)
    assert trainer.train_dataset == [[items[0], items[2]], [items[1]]]
    batch = trainer.collate(trainer.train_dataset)
    assert opened == [A.image, B.image, C.image]
    for shown, record in zip(batch["images"], (A, B, C), strict=True):
        assert torch.equal(shown, trainer.reward_model.decode(record.image))
    rows = [(r.images, r.prompt, r.dimension, r.trace, r.explanation) for r in batch["rows"]]
    assert rows == [
        ((1, 0), A.prompt, "realism", None, None),
        ((1, 0), A.prompt, "alignment", None, None),
        ((2,), C.prompt, "realism", None, CHAIN),
    ]
    assert batch["target"][:, 0].tolist() == pytest.approx([0.1, 0.3, 0.2])


@pytest.mark.parametrize(("keep", "expected"), [(True, [A.image, B.image]), (False, [A.image, B.image, A.image])])
def test_opened_pictures_are_kept_where_the_recipe_says_so(make_trainer, keep, expected):
    items = [item(A, "realism", 0.5), item(B, "realism", 0.5), item(A, "alignment", 0.5)]
    trainer, opened = make_trainer(items, keep_images=keep, group_dimensions=False)
    assert list(trainer.train_dataset) == [[each] for each in items]
    batch = trainer.collate(trainer.train_dataset)
    assert opened == expected
    for shown, each in zip(batch["images"], items, strict=True):
        assert torch.equal(shown, trainer.reward_model.decode(each.record.image))


def test_every_direct_method_has_a_loss_and_items_say_which_pictures_they_show():
    assert set(LOSSES) == set(DIRECT_METHODS)
    with pytest.raises(TypeError, match="abstract"):
        type("Items", (DirectItems,), {"__len__": lambda self: 0, "make": lambda self, index: None})()


def test_the_first_groups_of_a_batch_have_their_rows_and_pictures(make_trainer):
    items = [
        item(A, "realism", 0.1),
        item(A, "alignment", 0.2),
        item(B, "realism", 0.3, reference=C),
        item(C, "alignment", 0.4),
    ]
    trainer, _ = make_trainer(items, group_dimensions=True)
    batch = trainer.collate(trainer.train_dataset)
    assert (
        trainer.count(batch) == 4
        and trainer.count(batch | {WEIGHT: 1.5}) == 4
        and trainer.count(batch | {WEIGHT: 0.0}) == 0
    )
    for count, rows, pictures in ((1, 2, 1), (2, 3, 3), (3, 4, 4)):
        part = trainer.first_of(batch, count)
        whole = trainer.collate(trainer.train_dataset[:count])
        assert len(part["rows"]) == rows and len(part["images"]) == pictures
        assert part["rows"] == whole["rows"] and part["lengths"] == whole["lengths"]
        assert torch.equal(part["target"], whole["target"])
        assert all(map(torch.equal, part["images"], whole["images"]))


@pytest.mark.parametrize("kind", ["bytes", "path", "picture"])
def test_a_picture_is_kept_however_it_is_given(make_trainer, tmp_path, kind):
    pictures = noise_pictures(2)
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in (0, 1)]
    images = {
        "bytes": [path.read_bytes() for path in paths],
        "path": [str(path) for path in paths],
        "picture": pictures,
    }
    items = [item(Record("a", images[kind][number], {}), "realism", 0.5) for number in (0, 1, 0)]
    trainer, opened = make_trainer(items, keep_images=True, group_dimensions=False)
    trainer.collate(trainer.train_dataset)
    batch = trainer.collate(trainer.train_dataset)
    assert opened == images[kind]
    for shown, number in zip(batch["images"], (0, 1, 0), strict=True):
        assert torch.equal(shown, trainer.reward_model.decode(pictures[number]))


def test_pictures_and_prompts_are_changed_where_the_recipe_says_so(make_trainer):
    trainer, _ = make_trainer([item(A, "realism", 0.5)], augment=True, word_dropout=0.5)
    batch = trainer.collate(trainer.train_dataset)
    torch.manual_seed(1)
    images, rows = trainer._augmented(batch["images"], batch["rows"])
    torch.manual_seed(1)
    assert torch.equal(images[0], flip_and_shift(trainer.reward_model.open(A.image)))
    assert rows[0].prompt == drop_words(A.prompt, 0.5) != A.prompt
    assert (rows[0].images, rows[0].dimension) == ((0,), "realism")


def test_otherwise_nothing_is_changed_and_nothing_drawn(make_trainer):
    trainer, _ = make_trainer([item(A, "realism", 0.5)])
    batch = trainer.collate(trainer.train_dataset)
    state = torch.get_rng_state()
    assert trainer._augmented(batch["images"], batch["rows"]) == (batch["images"], batch["rows"])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_loss_that_is_no_number_stops_the_run_before_its_update(make_trainer):
    items = [DirectItem(A, "realism", torch.full((9,), float("nan")))]
    trainer, _ = make_trainer(items)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with pytest.raises(FloatingPointError, match="step 0: the loss is nan"):
        trainer.train()
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


def test_rows_are_averaged_over_the_batches_of_a_step_and_over_processes(make_trainer):
    trainer, _ = make_trainer([item(A, "realism", 0.5)])
    another = {"mean": 0, "sum": 100}  # as if a second process had other rows
    trainer.accelerator.reduce = lambda rows, reduction="sum": rows + another[reduction]
    batches = [{"rows": [1, 2, 3]}, {"rows": [4]}, {"rows": [5, 6]}]
    found, _ = trainer.get_batch_samples(iter(batches), 2, trainer.args.device)
    assert found == batches[:2] and trainer._mean_rows == 2.0
    found, _ = trainer.get_batch_samples(iter([]), 2, trainer.args.device)  # an epoch that has just ended
    assert found == [] and trainer._mean_rows == 0.0
