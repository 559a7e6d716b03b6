"""The JSON that goes in and out. Images are base64 of a PNG, JPEG or other raster file; nothing is fetched from a URL."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Lists end at their first bad value: a list of thousands would be answered with thousands of errors.
Names = Annotated[
    list[Annotated[str, Field(max_length=200)]],
    Field(fail_fast=True, max_length=256, description="Default: all of the model's."),
]
Prompt = Annotated[str, Field(min_length=1, description="The text that the image was made from.")]
Picture = Annotated[str, Field(min_length=1, description="Base64 of an encoded image; a data URI's header is skipped.")]


class RequestItem(BaseModel):
    prompt: Prompt
    image: Picture


class ScoreRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    items: Annotated[list[RequestItem], Field(fail_fast=True, min_length=1)]
    dimensions: Names | None = None


class Scale(BaseModel):
    min: float
    max: float
    step: float
    bins: list[float]


class Score(BaseModel):
    mean: Annotated[float, Field(description="Expected score, on the scale.")]
    std: Annotated[float, Field(description="How far the model thinks that people spread, in score points.")]
    probs: Annotated[list[float], Field(description="Probability of every bin of the scale.")]


class Identity(BaseModel):
    """Every answer says whose it is and what its numbers mean."""

    model: str
    version: Annotated[str, Field(description="Digest of the weights.")]
    scale: Scale


class ScoreReply(Identity):
    scores: Annotated[list[dict[str, Score]], Field(description="For every item: dimension -> score.")]


class ComputeRequest(BaseModel):
    """Flow-Factory's; other keys that it sends are ignored."""

    prompt: Prompt | Annotated[list[Prompt], Field(fail_fast=True)]
    image: Picture | Annotated[list[Picture], Field(fail_fast=True)]
    dimensions: Names | None = None


class RewardRequest(BaseModel):
    """OpenRLHF's, with an image for every prompt; other keys are ignored."""

    query: Annotated[list[RequestItem], Field(fail_fast=True, min_length=1)]
    dimensions: Names | None = None


class RewardReply(Identity):
    rewards: Annotated[list[float], Field(description="One number for every image: the aggregate.")]
    aggregate: Annotated[str, Field(description="How it came from the distributions.")]


class Health(Identity):
    status: str
    dimensions: list[str]
    waiting: Annotated[int, Field(description="Images in the queue.")]
