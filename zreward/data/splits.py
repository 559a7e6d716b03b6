"""Splitting by prompt, and refusing overlap between what is trained on and what is tested on."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace

from zreward.common.errors import InputError
from zreward.data.images import pixel_hashes
from zreward.data.packed import PackedImage
from zreward.data.preference import Preference, records_of
from zreward.data.record import Record
from zreward.data.record_table import Records


def normalised(prompt: str) -> str:
    """Prompts that differ in case, white space or Unicode form only are the same prompt."""
    return " ".join(unicodedata.normalize("NFKC", prompt).casefold().split())


LONG_ANSWER = 100  # letters; shorter answers are the same by chance


def long_answer(answer: str | None) -> str | None:
    """An answer, normalised, that says enough to be recognised; None for a shorter one."""
    text = "" if answer is None else normalised(answer)
    return text if len(text) >= LONG_ANSWER else None


def texts_of(records: Sequence[Record]) -> Iterator[str]:
    """The prompts, and the answers that say enough to be recognised."""
    yield from _prompts(records)
    yield from (answer for answer in map(long_answer, _answers(records)) if answer is not None)


def split_by_prompt(
    records: Sequence[Record], fractions: Mapping[str, float], seed: int = 0, by_image: bool = True
) -> dict[str, list[Record]]:
    """Split records by prompt, so that no prompt is in two splits.

    Prompts stay together if `check_disjoint` would refuse them apart: prompts that differ only in case or white space,
    prompts of one group, and prompts that share an identical picture (AGIQA-3K has such) or the same answer of 100 letters or
    more. The order of the records does not matter.

    Args:
        records: at least as many separate prompts as splits.
        fractions: split -> share of the records; they sum to 1 and are met as closely as whole prompts allow.
        seed: of the assignment.
        by_image: compare pictures, which decodes every image.

    Returns:
        Split -> records, with `Record.split` set.

    Raises:
        InputError: shares that do not sum to 1, or too few prompts.
    """
    homes = _homes(records, fractions, seed, by_image)
    dealt: dict[str, list[Record]] = {name: [] for name in fractions}
    for record, home in zip(records, homes, strict=True):
        dealt[home].append(replace(record, split=home))
    return dealt


def split_preferences_by_prompt(
    preferences: Sequence[Preference], fractions: Mapping[str, float], seed: int = 0, by_image: bool = True
) -> dict[str, list[Preference]]:
    """`split_by_prompt` for preferences: shares of the pairs; a pair shares whatever one of its pictures shares."""
    homes = _homes(records_of(preferences), fractions, seed, by_image)
    dealt: dict[str, list[Preference]] = {name: [] for name in fractions}
    for one, home in zip(preferences, homes[::2], strict=True):
        dealt[home].append(replace(one, split=home))
    return dealt


def _homes(records: Sequence[Record], fractions: Mapping[str, float], seed: int, by_image: bool) -> list[str]:
    """The split of every record."""
    shares = list(fractions.values())
    if not shares or not all(0 < share <= 1 for share in shares) or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise InputError(f"split fractions are {dict(fractions)}; expected shares above 0 that sum to 1")
    bundles = _bundles(records, by_image)
    if len(bundles) < len(fractions):
        raise InputError(
            f"{len(bundles)} separate prompts are too few for the {len(fractions)} splits {list(fractions)}; give "
            "more prompts (those in one group, or with an identical image, count as one)"
        )
    home: dict[int, str] = {}
    lacking = {name: share * len(records) for name, share in fractions.items()}
    empty = list(fractions)
    ordered = sorted(bundles, key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode()).hexdigest())
    for left, key in zip(range(len(ordered), 0, -1), ordered, strict=True):
        name = max(empty if left <= len(empty) else lacking, key=lambda split: lacking[split])
        lacking[name] -= len(bundles[key])
        empty = [split for split in empty if split != name]
        home |= dict.fromkeys(bundles[key], name)
    return [home[index] for index in range(len(records))]


def check_disjoint(train: Sequence[Record], test: Sequence[Record]) -> None:
    """InputError when a prompt, a long answer (case and white space aside) or an identical picture, pixel for pixel, is in both.

    Memory grows with `test` only. Pictures of `open_records` are not opened: their hashes are known.
    """
    asked = {normalised(record.prompt) for record in test}
    known = {text for prompt in _prompts(train) if (text := normalised(prompt)) in asked}
    shared = sorted({record.prompt for record in test if normalised(record.prompt) in known})
    if shared:
        raise InputError(f"{_some(shared, 'prompt')} in both train and test; split with split_by_prompt")
    words = {text for text in map(long_answer, _answers(test)) if text is not None}
    repeated = sorted(words.intersection(text for text in map(long_answer, _answers(train)) if text is not None))
    if repeated:
        raise InputError(
            f"{_some(repeated, 'answer')} in both train and test; split with split_by_prompt, or remove one"
        )
    hashes = list(_pixel_hashes(test))
    wanted = {digest for mine in hashes for digest in mine}
    same = {digest: row for row, mine in enumerate(_pixel_hashes(train)) for digest in mine if digest in wanted}
    twins = [
        f"{_name(train[same[digest]])} = {_name(record)}"
        for record, mine in zip(test, hashes, strict=True)
        for digest in mine
        if digest in same
    ]
    if twins:
        raise InputError(
            f"{_some(twins, 'image')} in both train and test (same pixels); split with split_by_prompt, or remove one"
        )


def _prompts(records: Sequence[Record]) -> Iterator[str]:
    return records.prompts() if isinstance(records, Records) else (record.prompt for record in records)


def _answers(records: Sequence[Record]) -> Iterator[str | None]:
    return records.answers() if isinstance(records, Records) else (record.answer for record in records)


def _pixel_hashes(records: Sequence[Record]) -> Iterator[list[str]]:
    """Those of each record's pictures."""
    if isinstance(records, Records):
        yield from records.pixel_hashes()
        return
    hashes = pixel_hashes(picture for record in records for picture in record.pictures)
    for record in records:
        yield [next(hashes) for _ in record.pictures]


def _bundles(records: Sequence[Record], by_image: bool) -> dict[str, list[int]]:
    """Indices of records that belong together, by the first of their prompts in alphabetical order."""
    keys: list[list[Hashable]] = [[("prompt", normalised(record.prompt))] for record in records]
    for index, record in enumerate(records):
        if record.group is not None:
            keys[index].append(("group", record.group))
        if (answer := long_answer(record.answer)) is not None:
            keys[index].append(("answer", answer))
    if by_image:
        for index, digests in enumerate(_pixel_hashes(records)):
            keys[index] += [("image", digest) for digest in digests]
    parent: dict[Hashable, Hashable] = {}

    def root(key: Hashable) -> Hashable:
        while (above := parent.setdefault(key, key)) != key:
            parent[key] = parent[above]
            key = above
        return key

    for first, *others in keys:
        for other in others:
            parent[root(other)] = root(first)
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, (first, *_) in enumerate(keys):
        members[root(first)].append(index)
    return {min(normalised(records[index].prompt) for index in indices): indices for indices in members.values()}


def _some(names: Sequence[str], what: str) -> str:
    count = f"1 {what} is" if len(names) == 1 else f"{len(names)} {what}s are"
    return f"{count} ({'; '.join(names[:3])}{'; ...' if len(names) > 3 else ''})"


def _name(record: Record) -> str:
    files = [str(one) if isinstance(one, str | PackedImage) else "an image in memory" for one in record.pictures]
    return f"{record.id or ' and '.join(files) or 'an answer'} of {record.prompt!r}"
