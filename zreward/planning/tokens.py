"""How many tokens a recipe's step reads and samples. Texts are counted by their letters: no tokenizer is needed.

Counts are upper bounds where lengths vary: pictures as large as they may be, traces as long as they may be.
"""

from __future__ import annotations

from dataclasses import dataclass

from zreward.models.pixels import ResolutionPolicy
from zreward.planning.networks import Network
from zreward.planning.shapes import Shape
from zreward.prompting import PromptForms, messages
from zreward.rubric import Rubric
from zreward.training.methods import find_method
from zreward.training.recipe import Recipe

LETTERS = 4  # of an English text that become a token
TURNS = 16  # tokens of a chat template around system and user turn
PROMPT = 80  # tokens of the prompt that a picture was generated from
TRACE = 512  # tokens of a trace where neither recipe nor checkpoint limits it


@dataclass(frozen=True)
class Lengths:
    """Tokens of the parts of one row."""

    opening: int  # system text and rubric
    image: int  # of one picture
    images: int  # of all pictures of a row
    prompt: int
    question: int  # with the answer's prefix and label
    trace: int

    @property
    def prefix(self) -> int:
        return self.images + self.prompt

    @property
    def row(self) -> int:
        return self.opening + self.prefix + self.question + self.trace


@dataclass(frozen=True)
class Pieces:
    """One GPU's share of a step: `times` pieces, each a forward and a backward pass, and the roll-out before them."""

    lengths: Lengths
    rows: int  # of a piece
    tokens: int  # of a piece, as they pass the language model
    traced: int  # of them the traces' tokens, whose log-probabilities are taken
    images: int  # of a piece, through the vision tower
    shared: bool  # what rows have in common is read once
    times: int  # pieces of an optimizer step
    unlearned: float  # passes over each piece without gradients: scores before the loss, the reference
    sequences: int  # sampled together in a roll-out; 0 without
    sides: int  # pictures of a roll-out
    rollouts: float  # of an optimizer step

    @property
    def prefill(self) -> int:
        """Tokens that a roll-out reads before it samples."""
        return self.sides * (self.lengths.row - self.lengths.trace) if self.sequences else 0


def pieces_of(recipe: Recipe, network: Network, shape: Shape) -> Pieces:
    """One GPU's work in a step of the recipe."""
    lengths = lengths_of(recipe, network, shape)
    optimizer, options = recipe.optimizer, recipe.rollout
    shared = _shares(recipe, network)
    if not find_method(recipe.method).reasons:
        questions = _dimensions(recipe, network) if recipe.data.group_dimensions else 1
        sides = optimizer.batch_size * (2 if recipe.method == "preference" else 1)
        rows, branches = sides * questions, questions
        work = (optimizer.gradient_accumulation, 0.0, 0, 0, 0.0)
    else:
        sides = optimizer.batch_size * (1 if recipe.method == "opd" else 2)
        sequences, branches = sides * options.group_size, options.group_size
        rows = min(options.sequences_per_forward or sequences, sequences)
        times = -(-sequences // rows)
        unlearned = float(times > 1) + 1 / options.updates_per_rollout * (
            float(options.beta > 0) + float(options.updates_per_rollout > 1)
        )
        again = optimizer.gradient_accumulation / options.updates_per_rollout
        work = (times * optimizer.gradient_accumulation, unlearned, sequences, sides, again)
    prefixes = min(sides, -(-rows // branches))  # pictures of a piece
    tokens = rows * lengths.row
    if shared:
        tokens = lengths.opening + prefixes * lengths.prefix + rows * (lengths.question + lengths.trace)
    images = prefixes * (2 if recipe.method == "rewarddance-pairwise" else 1)
    return Pieces(lengths, rows, tokens, rows * lengths.trace, images, shared, *work)


def lengths_of(recipe: Recipe, network: Network, shape: Shape) -> Lengths:
    rubric, forms = _rubric(recipe, network), _forms(network)
    method = find_method(recipe.method)
    turns = messages("", rubric.dimensions[0], rubric, forms, method.reasons)
    before = turns[0]["content"][0]["text"] if len(turns) > 1 else ""
    asked = turns[-1]["content"][-1]["text"]
    image, pairwise = image_tokens(recipe, network, shape), recipe.method == "rewarddance-pairwise"
    traced = method.reasons or recipe.method == "rewarddance"
    return Lengths(
        opening=_tokens(before) + TURNS // 2,
        image=image,
        images=(2 if pairwise else 1) * image,
        prompt=PROMPT,
        question=_tokens(asked + forms.answer_prefix) + TURNS // 2 + 1,
        trace=_trace(recipe, network) if traced else 0,
    )


def image_tokens(recipe: Recipe, network: Network, shape: Shape) -> int:
    """Of the largest picture that the resolution allows."""
    if not shape.patch:
        return shape.image_tokens
    wanted, recorded = recipe.model, network.recorded.get("resolution") or {}
    policy = ResolutionPolicy(wanted.longest_side, wanted.pixel_budget)
    if not policy.is_limited:
        policy = ResolutionPolicy(recorded.get("longest_side"), recorded.get("pixel_budget"))
    return policy.most_pixels(shape.patch) // shape.patch**2


def _shares(recipe: Recipe, network: Network) -> bool:
    """As the trainers decide (training.trainer_base)."""
    wanted = recipe.optimizer.share_prefix
    return bool(_forms(network).rubric) if wanted is None else wanted


def _dimensions(recipe: Recipe, network: Network) -> int:
    return len(recipe.data.dimensions or _rubric(recipe, network).dimensions)


def _rubric(recipe: Recipe, network: Network) -> Rubric:
    if "rubric" in network.recorded:
        return Rubric.from_dict(network.recorded["rubric"])
    return Rubric.from_yaml(recipe.model.rubric) if recipe.model.rubric else Rubric.default()


def _forms(network: Network) -> PromptForms:
    return PromptForms.from_dict(network.recorded["forms"]) if "forms" in network.recorded else PromptForms()


def _trace(recipe: Recipe, network: Network) -> int:
    return recipe.model.max_trace_tokens or network.recorded.get("max_trace_tokens") or TRACE


def _tokens(text: str) -> int:
    return -(-len(text) // LETTERS)
