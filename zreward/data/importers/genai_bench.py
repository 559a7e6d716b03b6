"""Two benchmarks of one name: CMU's GenAI-Bench (ratings) and TIGER-Lab's GenAI-Bench (pairs).

CMU (arXiv 2406.13743), sources of the layout: github.com/linzhiqiu/t2v_metrics, genai_image.json and class GenAIBench_Image
of dataset.py (pictures are MODEL/ID.jpeg; every picture has three ratings, alignment of 1 to 5); the data card of the hub's
BaiqiL/GenAI-Bench (the same in Parquet, pictures inside). The raters of different pictures are not said to be the same
people: ratings are a list, not {rater: rating}.

TIGER-Lab (arXiv 2406.04485), sources of the layout: the data card of the hub's TIGER-Lab/GenAI-Bench (configuration
image_generation); github.com/TIGER-AI-Lab/GenAI-Bench, inference.py (`vote_type`), inference_configs.json and
results/image_generation/random/pairwise.jsonl (72 of the votes). Editing and video, whose prompts hold more than a text, are
not read. Both of "tie" and "both bad" are ties; the tag says which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from zreward.common.errors import InputError, shown
from zreward.data.fields import plain_list, plain_text
from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.rows import json_rows, parquet_rows
from zreward.data.importers.rubrics import Published
from zreward.data.importers.values import models_of, needed, whole_number
from zreward.data.preference import OVERALL, Preference
from zreward.data.record import Record

MODELS = ("DALLE_3", "DeepFloyd_I_XL_v1", "Midjourney_6", "SDXL_2_1", "SDXL_Base", "SDXL_Turbo")
LOWEST, HIGHEST = 1, 5
DIMENSIONS = {
    "alignment": Published(
        LOWEST,
        HIGHEST,
        "How well does the image match the prompt?",
        "It does not match at all.",
        "It matches perfectly.",
    )
}
_PARQUET = ("Index", "Prompt", "HumanRatings", *MODELS)
_TIGER = ("prompt", "left_model", "left_image", "right_model", "right_image", "vote_type")
VOTES = {"leftvote": "a", "rightvote": "b", "tievote": "tie", "bothbad_vote": "tie"}


def _read_cmu(reading: Reading) -> Iterator[Record]:
    for file in reading.files("genai_image.json", "data/*.parquet", "*.parquet"):
        if file.suffix.lower() == ".parquet":
            rows = reading.each(parquet_rows([file], _PARQUET, ("Tags",)), partial(_row_with_pictures, reading))
        else:
            rows = reading.each(json_rows(file), partial(_row_of_json, reading))
        for records in rows:
            yield from records


def _row_of_json(reading: Reading, row: Mapping[str, Any]) -> list[Record]:
    name, prompt, models = needed(row, "id", "prompt", "models")
    if not isinstance(models, Mapping):
        raise InputError(f"models is {shown(models)}, expected {{model: ratings}}")
    place = plain_text(name, "id")
    pictures = {model: reading.picture(f"{model}/{place}.jpeg", f"picture of {model}") for model in models}
    return [_record(place, prompt, model, pictures[model], ratings) for model, ratings in models.items()]


def _row_with_pictures(reading: Reading, row: Mapping[str, Any]) -> list[Record]:
    index, prompt, ratings = needed(row, "Index", "Prompt", "HumanRatings")
    place = f"{whole_number(index, 'Index', 0):05d}"
    pictures = {model: reading.picture(row[model], model) for model in MODELS if row[model] is not None}
    found = []
    for model, picture in pictures.items():
        if not isinstance(ratings, Mapping) or ratings.get(model) is None:
            raise InputError(f"HumanRatings of {model!r} are missing")
        found.append(_record(place, prompt, model, picture, ratings[model]))
    return found


def _record(place: str, prompt: str, model: str, image: Any, ratings: Any) -> Record:
    what = f"ratings of {model!r}"
    scores = [whole_number(rating, what, LOWEST, HIGHEST) for rating in plain_list(ratings, what)]
    return Record(prompt, image, {"alignment": scores}, tags=(f"generator:{model}",), id=f"{place}/{model}")


def _read_tiger(reading: Reading) -> Iterator[Preference]:
    patterns = (
        "image_generation/train-*.parquet",
        "image_generation/test-*.parquet",
        "train-*.parquet",
        "test-*.parquet",
    )
    yield from reading.each(parquet_rows(reading.files(*patterns), _TIGER), partial(_pair, reading))


def _pair(reading: Reading, row: Mapping[str, Any]) -> Preference:
    prompt, left, right, told = needed(row, "prompt", "left_image", "right_image", "vote_type")
    if not isinstance(told, str) or told not in VOTES:
        raise InputError(f"vote_type is {shown(told)}, expected one of {', '.join(VOTES)}")
    images = (reading.picture(left, "left_image"), reading.picture(right, "right_image"))
    models = models_of(row, "left_model", "right_model")
    return Preference(prompt, images, {OVERALL: VOTES[told]}, models, split="test", tags=(f"vote:{told}",))


CMU = Importer(
    name="genai-bench",
    title="GenAI-Bench (CMU)",
    source="hub BaiqiL/GenAI-Bench, zhiqiulin/GenAI-Bench-527; github.com/linzhiqiu/t2v_metrics",
    licence="Apache-2.0",
    layout="genai_image.json and MODEL/ID.jpeg (the zip of each model unpacked), or data/*.parquet",
    holds="527 or 1,600 prompts, pictures of six models, three ratings each",
    targets="records: alignment, every rating, from 1-5",
    missing="who rated; splits (it is a test set)",
    checked="genai_image.json of the repository (17 of its prompts were seen, 5 imported); data card for Parquet",
    makes=Record,
    read=_read_cmu,
    dimensions=DIMENSIONS,
)
TIGER = Importer(
    name="genai-bench-pairs",
    title="GenAI-Bench (TIGER-Lab)",
    source="hub TIGER-Lab/GenAI-Bench; github.com/TIGER-AI-Lab/GenAI-Bench",
    licence="CC-BY-4.0",
    layout="image_generation/train-*.parquet (the older train_v1 as ROOT, if you want it)",
    holds="pairs from an arena of generators, pictures inside, one vote each",
    targets="preferences, overall: the vote; both bad is a tie (tag vote:bothbad_vote)",
    missing="who voted; editing and video are not read",
    checked="data card, evaluation code and 72 votes in published results; not checked against a file",
    makes=Preference,
    read=_read_tiger,
    embedded=True,
)
