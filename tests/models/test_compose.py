"""A LLaVA-type model of pretrained parts: every part keeps its weights, and the folder is an ordinary checkpoint."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, LlavaForConditionalGeneration

from tests.models.parts import write_language, write_tower
from tests.tiny import noise_pictures, tiny_rubric
from zreward.common.errors import InputError
from zreward.models.compose import ComposeSpec, compose, configuration
from zreward.models.reward_model import RewardModel
from zreward.models.rows import Row
from zreward.models.tower import tower_features

TOWERS = ("clip", "clip-vision", "siglip", "dinov2")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Folders of the towers by kind, and of a language model under "language"."""
    folder = tmp_path_factory.mktemp("parts")
    found = {kind: write_tower(kind, folder / kind) for kind in TOWERS}
    return found | {"language": write_language(folder / "language")}


def composed(parts, folder, kind="clip", pool=1, pictures=(), **options) -> RewardModel:
    spec = ComposeSpec(str(parts[kind]), str(parts["language"]), **options)
    torch.manual_seed(0)
    return RewardModel.from_pretrained(compose(spec, folder, tiny_rubric(), pool, pictures=pictures))


@pytest.mark.parametrize("kind", TOWERS)
def test_the_parts_keep_their_weights_in_a_plain_llava_folder(parts, tmp_path, kind):
    composed(parts, tmp_path / "made", kind)
    made = LlavaForConditionalGeneration.from_pretrained(tmp_path / "made")
    tower = AutoModel.from_pretrained(parts[kind])
    tower = getattr(tower, "vision_model", tower) if kind == "clip" else tower
    language = AutoModelForCausalLM.from_pretrained(parts["language"])
    kept = made.model.vision_tower.state_dict()
    assert kept.keys() == tower.state_dict().keys()
    assert all(torch.equal(kept[name], weight) for name, weight in tower.state_dict().items())
    for name, weight in language.model.state_dict().items():
        assert torch.equal(made.model.language_model.state_dict()[name][: len(weight)], weight), name
    assert made.lm_head.weight is made.model.language_model.embed_tokens.weight


@pytest.mark.parametrize(
    ("kind", "class_token", "pool", "tokens"),
    [
        ("clip", False, 1, 16),
        ("clip", True, 1, 17),
        ("clip", True, 2, 5),
        ("clip", False, 3, 4),
        ("siglip", False, 2, 4),
        ("dinov2", True, 4, 2),
    ],
)
def test_how_many_tokens_an_image_becomes(parts, tmp_path, kind, class_token, pool, tokens):
    model = composed(parts, tmp_path / "made", kind, pool, class_token=class_token)
    assert model.layout.tokens((1, 1, 1)) == model.backbone.base.config.image_seq_length == tokens
    scores = model.score(noise_pictures(2), "a red circle")
    assert scores.probs.shape == (2, 4, 9) and not torch.equal(scores.probs[0], scores.probs[1])


def test_the_parts_outputs_are_those_of_the_parts_alone(parts, tmp_path):
    """Projector and language model, by hand: states of two layers side by side, then the language model over embeddings."""
    model = composed(parts, tmp_path / "made", layers=[1, -1], class_token=True)
    inputs = model.collate(
        [model.open(picture) for picture in noise_pictures(1)], [Row((0,), "a red circle", "realism")]
    )
    network, language = model.backbone.base, AutoModelForCausalLM.from_pretrained(parts["language"])
    tower = AutoModel.from_pretrained(parts["clip"]).vision_model
    with torch.no_grad():
        states = tower(inputs.patches, output_hidden_states=True).hidden_states
        tokens = network.model.multi_modal_projector(torch.cat([states[1], states[-1]], -1))
        embedded = network.get_input_embeddings()(inputs.input_ids)
        embedded[inputs.input_ids == network.config.image_token_id] = tokens[0]
        wanted = language(inputs_embeds=embedded).logits[:, -1, model.encoder.label_ids]
        assert torch.allclose(model.backbone(inputs).score_logits, wanted, atol=1e-5)


def test_the_towers_colours_are_taken_over(parts, tmp_path):
    model = composed(parts, tmp_path / "made")
    assert (model.layout.mean, model.layout.std) == ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))


def test_a_llava_folder_gives_either_part(parts, tmp_path):
    composed(parts, tmp_path / "first")
    both = str(tmp_path / "first")
    second = RewardModel.from_pretrained(compose(ComposeSpec(both, both), tmp_path / "second", tiny_rubric()))
    first = RewardModel.from_pretrained(both)
    assert second.encoder.image_token_id == first.encoder.image_token_id
    second.backbone.base.model.multi_modal_projector.load_state_dict(
        first.backbone.base.model.multi_modal_projector.state_dict()
    )
    pictures = noise_pictures(2)
    assert torch.equal(second.score(pictures, "a cross").probs, first.score(pictures, "a cross").probs)


def test_untied_language_models_stay_untied(parts, tmp_path):
    parts = parts | {"language": write_language(tmp_path / "untied", tied=False)}
    network = composed(parts, tmp_path / "made").backbone.base
    head = AutoModelForCausalLM.from_pretrained(tmp_path / "untied").lm_head.weight
    assert torch.equal(network.lm_head.weight[: len(head)], head)
    assert not torch.equal(network.lm_head.weight, network.model.language_model.embed_tokens.weight)


def test_the_lowest_layers_of_a_language_model_alone(parts, tmp_path):
    network = composed(parts, tmp_path / "made", language_layers=2).backbone.base
    assert network.config.text_config.num_hidden_layers == len(network.model.language_model.layers) == 2
    whole = AutoModelForCausalLM.from_pretrained(parts["language"]).model
    kept = network.model.language_model.state_dict()
    assert all(torch.equal(kept[name], weight) for name, weight in whole.state_dict().items() if ".1." in name)


@pytest.mark.parametrize("kind", TOWERS)
def test_the_lowest_layers_of_a_tower_alone(parts, tmp_path, kind):
    """They make of a picture what the whole tower has made of it after so many layers, also once the folder is loaded again."""
    model = composed(parts, tmp_path / "made", kind, vision_layers=2, layers=[1, 2])
    whole = AutoModel.from_pretrained(parts[kind])
    whole = getattr(whole, "vision_model", whole)
    pixels = model.layout.patchify(model.open(noise_pictures(1)[0]))[0]
    with torch.no_grad():
        states = whole(pixels, output_hidden_states=True).hidden_states
        kept = tower_features(model.backbone.base, pixels)
    skipped = 0 if kind.startswith("siglip") else 1
    torch.testing.assert_close(kept, torch.cat([states[1], states[2]], -1)[:, skipped:])
    names = model.backbone.base.model.vision_tower.state_dict()
    assert any(".1." in name for name in names) and not any(".2." in name for name in names)
    assert model.backbone.base.config.vision_config.num_hidden_layers == 2


@pytest.mark.parametrize("text", [True, False])
def test_the_rubrics_text_is_left_out_where_that_is_asked_for(parts, tmp_path, text):
    model = composed(parts, tmp_path / "made", rubric_text=text)
    ids = model.encoder.encode("a red circle", model.rubric.dimensions[0], reasoning=False)
    said = model.tokenizer.decode(ids)
    assert "a red circle" in said and "Alignment" in said
    assert ("all wrong" in said) is text and (len(ids) < 100) is not text


PROJECTOR = "model.multi_modal_projector."


def test_pictures_scale_the_projector_and_nothing_else(parts, tmp_path):
    """Every channel of the states counts alike, and image tokens have the size of words."""
    pictures = noise_pictures(8)
    plain = composed(parts, tmp_path / "plain", layers=[1, -1])
    scaled = composed(parts, tmp_path / "scaled", layers=[1, -1], pictures=pictures)
    after = scaled.backbone.base.state_dict()
    changed = {
        name for name, weight in plain.backbone.base.state_dict().items() if not torch.equal(after[name], weight)
    }
    assert changed and all(name.startswith(PROJECTOR) for name in changed)
    base = scaled.backbone.base
    pixels = torch.cat([scaled.layout.patchify(scaled.open(picture))[0] for picture in pictures])
    with torch.no_grad():
        states = tower_features(base, pixels).flatten(0, 1).double()
        tokens = torch.cat(base.model.get_image_features(pixels).pooler_output)
        hidden = base.model.multi_modal_projector.linear_1(states.float()).double()
    words = base.get_input_embeddings().weight
    assert tokens.square().mean().sqrt().item() == pytest.approx(words.square().mean().sqrt().item(), rel=1e-3)
    assert hidden.mean(0).abs().max() < 1e-4  # the mean image is nothing
    per_unit = after[f"{PROJECTOR}linear_1.weight"].double() * states.std(0)
    assert per_unit.square().mean(0).sqrt().std() < 0.3 * per_unit.square().mean().sqrt()  # 32 draws a channel


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vision": None}, "vision is None.*expected a folder or hub name"),
        ({"vision": "language"}, "holds no image tower that is known.*'llama'.*clip_vision_model"),
        ({"language": "clip-vision"}, "language part of a composed model"),
        ({"layers": [9]}, r"model.compose.layers is \[9\]; expected numbers from -4 .* to 3"),
        ({"language_layers": 4}, "language_layers is 4, expected 1 to 3"),
        ({"language_layers": 0}, "language_layers is 0"),
        ({"vision_layers": 4}, "vision_layers is 4, expected 1 to 3, the layers of the vision model"),
        ({"vision_layers": 0}, "vision_layers is 0"),
        ({"vision_layers": 2, "layers": [3]}, r"layers is \[3\]; expected numbers from -3 .* to 2"),
        ({"vision": "language", "vision_layers": 1}, "holds no image tower that is known.*'llama'"),
        ({"layers": []}, r"model.compose.layers is \[\]"),
        ({"vision": "siglip", "class_token": True}, "'siglip_vision_model' has no token for the whole image"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, tmp_path, options, message):
    spec = {"vision": "clip", "language": "language"} | options
    spec |= {key: str(parts[spec[key]]) for key in ("vision", "language") if spec[key]}
    with pytest.raises(InputError, match=message):
        compose(ComposeSpec(**spec), tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_pickles_and_code_are_refused(parts, tmp_path):
    pickled = shutil.copytree(parts["clip"], tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors only"):
        compose(ComposeSpec(str(pickled), str(parts["language"])), tmp_path / "made")
    coded = shutil.copytree(parts["language"], tmp_path / "coded")
    text = (coded / "config.json").read_text()
    (coded / "config.json").write_text(text.replace("{", '{"auto_map": {"AutoConfig": "own.Config"},', 1))
    with pytest.raises(InputError, match="code of its own"):
        compose(ComposeSpec(str(parts["clip"]), str(coded)), tmp_path / "made")


def test_a_part_with_missing_weights_is_refused(parts, tmp_path):
    from safetensors.torch import load_file, save_file

    cut = shutil.copytree(parts["clip-vision"], tmp_path / "cut")
    weights = load_file(cut / "model.safetensors")
    del weights[next(name for name in weights if "layers.1.mlp.fc1.weight" in name)]
    save_file(weights, cut / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="1 weights are missing.*would be random numbers"):
        compose(ComposeSpec(str(cut), str(parts["language"])), tmp_path / "made")


@pytest.mark.parametrize(
    ("part", "changed", "layers", "reason"),
    [
        ("clip", {}, 99, "vision_layers is 99, expected 1 to"),
        ("clip", {"patch_size": 0}, None, "cannot be loaded as parts of a composed model"),
        ("clip", {"image_size": [28, 28]}, None, "cannot be loaded as parts of a composed model"),
        ("language", {"text_config": 5}, None, "cannot be loaded as parts of a composed model"),
        ("language", {}, 0, "language_layers is 0, expected 1 to"),
        ("language", {}, 99, "language_layers is 99, expected 1 to"),
    ],
)
def test_a_plan_of_damaged_parts_is_refused(parts, tmp_path, part, changed, layers, reason):
    shutil.copytree(parts[part], tmp_path / part)
    config = json.loads((tmp_path / part / "config.json").read_text()) | changed
    if "vision_config" in config:
        config["vision_config"] |= changed
    (tmp_path / part / "config.json").write_text(json.dumps(config))
    folders = {"clip": parts["clip"], "language": parts["language"], part: tmp_path / part}
    which = "vision_layers" if part == "clip" else "language_layers"
    spec = ComposeSpec(str(folders["clip"]), str(folders["language"]), **{which: layers})
    with pytest.raises(InputError, match=reason):
        configuration(spec)
