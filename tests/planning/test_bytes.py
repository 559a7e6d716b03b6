"""How engines cut memory, what a reference and a teacher add, and work against a plain count."""

from __future__ import annotations

import pytest

from zreward.common.errors import InputError
from zreward.planning.engines import Engine, engine_of
from zreward.planning.plan import make_plan

ACCELERATE = {
    "NO": ("distributed_type: 'NO'\n", Engine("none", 1)),
    "ddp": ("distributed_type: MULTI_GPU\nnum_processes: 8\nmixed_precision: bf16\n", Engine("ddp", 8, mixed=True)),
    "fsdp": (
        "distributed_type: FSDP\nnum_processes: 4\nfsdp_config:\n  fsdp_version: 2\n  fsdp_reshard_after_forward: true\n",
        Engine("fsdp", 4),
    ),
    "fsdp-grad-op": (
        "distributed_type: FSDP\nnum_processes: 4\nfsdp_config:\n  fsdp_reshard_after_forward: false\n",
        Engine("fsdp", 4, reshards=False),
    ),
    "zero3": (
        "distributed_type: DEEPSPEED\nnum_processes: 16\ndeepspeed_config:\n  zero_stage: 3\n  offload_optimizer_device: cpu\n",
        Engine("zero3", 16, offloads=True),
    ),
}


@pytest.mark.parametrize(("text", "expected"), ACCELERATE.values(), ids=ACCELERATE)
def test_accelerates_file(recipe_of, tmp_path, text, expected):
    file = tmp_path / "accelerate.yaml"
    file.write_text(text)
    assert engine_of(recipe_of(), file, None, None) == expected


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        ({"fsdp": "full_shard auto_wrap"}, Engine("fsdp", 4)),
        ({"fsdp": ["shard_grad_op"]}, Engine("fsdp", 4, reshards=False)),
        ({"deepspeed": {"zero_optimization": {"stage": 2}}}, Engine("zero2", 4)),
        ({"deepspeed": {"zero_optimization": {"stage": 0}}}, Engine("ddp", 4)),
        ({}, Engine("ddp", 4)),
    ],
)
def test_the_recipes_trainer(recipe_of, trainer, expected):
    assert engine_of(recipe_of(trainer=trainer), None, None, 4) == expected
    assert engine_of(recipe_of(trainer=trainer), None, "zero3", 4).name == "zero3"


def test_wrong_engines(recipe_of, tmp_path):
    with pytest.raises(InputError, match="--engine none is one process"):
        engine_of(recipe_of(), None, "none", 2)
    with pytest.raises(InputError, match="--engine megatron is unknown; expected one of none, ddp"):
        engine_of(recipe_of(), None, "megatron", 2)
    file = tmp_path / "wrong.yaml"
    file.write_text("distributed_type: TPU\n")
    with pytest.raises(InputError, match="TPU is not planned"):
        engine_of(recipe_of(), file, None, None)
    file.write_text("num_processes: many\n")
    with pytest.raises(InputError, match="num_processes is 'many'"):
        engine_of(recipe_of(), file, None, None)
    with pytest.raises(InputError, match="stage is 5"):
        engine_of(recipe_of(trainer={"deepspeed": {"zero_optimization": {"stage": 5}}}), None, None, 2)


@pytest.mark.parametrize(
    ("engine", "weights", "gradients", "optimizer"),
    [("ddp", 4, 4, 8), ("fsdp", 1, 1, 2), ("zero1", 2, 4, 3), ("zero2", 2, 1, 3), ("zero3", 0.5, 1, 3)],
)
def test_bytes_of_a_trained_weight_on_one_of_four_gpus(recipe_of, machines_of, engine, weights, gradients, optimizer):
    # bfloat16 products; DeepSpeed's weights are bfloat16, and its float32 masters belong to the optimizer: (4 + 8) / 4.
    plan = make_plan(recipe_of(trainer={"bf16": True}), machines_of(engine, 4))
    trained, found = plan.shape.trainable, plan.memory
    assert found.weights == pytest.approx(weights * trained, abs=4)
    assert found.gradients == pytest.approx(gradients * trained, abs=4)
    assert found.optimizer == pytest.approx(optimizer * trained, abs=4)
    assert found.communication > 0


def test_a_reference_is_a_copy_of_all_weights_and_an_adapter_needs_none(recipe_of, machines_of):
    full = make_plan(recipe_of("gdso", rollout__beta=0.1), machines_of())
    assert full.memory.reference == full.memory.weights
    assert make_plan(recipe_of("gdso"), machines_of()).memory.reference == 0
    assert make_plan(recipe_of("gdso", rollout__beta=0.1, model__lora_rank=4), machines_of()).memory.reference == 0


@pytest.mark.parametrize(("engine", "parts"), [("ddp", 1), ("zero2", 1), ("fsdp", 4), ("zero3", 4)])
def test_a_teacher_is_split_where_the_student_is(recipe_of, machines_of, folder, engine, parts):
    recipe = recipe_of("opd", rollout__teacher=str(folder / "model"), model__dtype="bfloat16")
    plan = make_plan(recipe, machines_of(engine, 4))
    assert plan.memory.teacher == 2 * plan.shape.parameters // parts
    alone = make_plan(recipe_of("grpo", model__dtype="bfloat16"), machines_of())
    assert plan.work.forward_only > 0 == alone.work.forward_only


def test_the_total_is_the_larger_phase(recipe_of, machines_of):
    found = make_plan(recipe_of("gdso"), machines_of()).memory
    stays = found.weights + found.gradients + found.optimizer
    assert found.total == stays + max(found.activations + found.logits, found.kv_cache) + found.reserve


@pytest.mark.parametrize(("optim", "bytes_each"), [("adamw_bnb_8bit", 2), ("sgd", 0), ("adamw_torch", 8)])
def test_optimizers(recipe_of, machines_of, optim, bytes_each):
    plan = make_plan(recipe_of(trainer={"optim": optim}), machines_of())
    assert plan.memory.optimizer == bytes_each * plan.shape.trainable


def test_keys_and_values_of_every_sequence(recipe_of, machines_of):
    plan = make_plan(recipe_of("gdso", rollout__group_size=3), machines_of())
    # 2 pairs, 2 sides, 3 traces; 4 layers, keys and values of 2 heads of 32 numbers, float32.
    assert plan.memory.kv_cache == 12 * 4 * 2 * 64 * 4 * plan.pieces.lengths.row


def test_work_is_three_products_of_a_weight_and_four_with_checkpointing(recipe_of, machines_of):
    plain = make_plan(recipe_of(), machines_of())
    again = make_plan(recipe_of(optimizer__gradient_checkpointing=True), machines_of())
    weights = sum(block.multiplied for block in plain.shape.of("attention"))
    tower = sum(block.multiplied for block in plain.shape.of("vision"))
    pieces, shape = plain.pieces, plain.shape
    patches = pieces.images * pieces.lengths.image * 4
    attention = 4 * shape.queries * (pieces.lengths.row / 2) * 4  # layers; a token looks back on half of a row
    vision_attention = 4 * shape.vision_hidden * pieces.lengths.image * 4 * 3
    forward = pieces.tokens * (2 * weights + attention) + patches * (2 * tower + vision_attention)
    assert plain.work.training == pytest.approx(3 * forward)
    assert again.work.training == pytest.approx(4 * forward)
    adapted = make_plan(recipe_of(model__lora_rank=4, model__freeze_vision=True), machines_of()).work.training
    assert adapted < 0.8 * plain.work.training  # no gradients of frozen weights, none at all through the tower
