"""`zreward push`: a checkpoint with its model card on the Hugging Face hub; safetensors only."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from zreward.common.errors import InputError, shorten
from zreward.common.hub_errors import hub_errors
from zreward.models.checkpoint_files import ADAPTER_CONFIG, check_folder, check_pickles
from zreward.publishing.card import CardFacts, write_card
from zreward.publishing.readme import README

_SENT = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", README)
_SECRET = re.compile(r"(?i)secret|credential|passw|api[_-]?key|access[_-]?token|hf[_-]?token|id_rsa")
_KEPT = ("trainer_state.json", "training_args.json", "optimizer*", "scheduler*", "rng_state*")
"""What a trainer leaves beside a model."""


@dataclass(frozen=True)
class Pushed:
    """What was sent, or would be."""

    files: tuple[str, ...]
    has_own_card: bool  # README.md was written by somebody else, and kept
    url: str = ""


def push(folder: str | Path, repo: str, facts: CardFacts, private: bool = False, dry_run: bool = False) -> Pushed:
    """Write the model card into the folder and send the folder to the hub.

    Args:
        folder: a checkpoint: of `zreward export`, or of a run; no adapter.
        repo: OWNER/NAME; made where it does not exist.
        facts: for the card.
        private: whether a new repository is private.
        dry_run: write the card, send nothing.

    Returns:
        The files, and the address of the commit.

    Raises:
        InputError: no checkpoint, weights that are no safetensors, an invalid name, a hub that refuses or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    folder = Path(folder)
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InputError(f"{shorten(repo)}: {str(error).splitlines()[0]}") from None
    if repo.count("/") != 1:
        raise InputError(f"{shorten(repo)}: expected OWNER/NAME, such as me/judge")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such checkpoint folder")
    check_folder(folder)
    check_pickles(folder, "model.safetensors")
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            f"{folder} has no safetensors weights; name the folder of a run's model, or of `zreward export`"
        )
    if os.path.lexists(folder / ADAPTER_CONFIG):
        raise InputError(
            f"{folder} is a LoRA adapter, and its files name its base by a path of this machine; `zreward export {folder} OUT "
            "--merge` writes a whole model"
        )
    _refuse_strangers(folder)
    own_card = not write_card(folder, repo, facts)
    files = tuple(sorted(file.name for file in folder.iterdir() if _is_sent(file)))
    if dry_run:
        return Pushed(files, own_card)
    return Pushed(files, own_card, _send(HfApi(), folder, repo, private, files))


def _is_sent(file: Path) -> bool:
    named = any(file.match(pattern) for pattern in _SENT) and not any(file.match(pattern) for pattern in _KEPT)
    return named and not file.name.startswith(".") and file.is_file()


def _refuse_strangers(folder: Path) -> None:
    """InputError for a link to a file elsewhere, whose content would be published, and for a file that speaks of a secret.

    The hub's own cache is made of links into a folder beside the checkpoint's.
    """
    inside = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":
        inside.append(folder.resolve().parents[1] / "blobs")
    for file in filter(_is_sent, sorted(folder.iterdir())):
        if not any(file.resolve().is_relative_to(place) for place in inside):
            raise InputError(
                f"{file} is a link to {file.resolve()}, whose content would be published; put the file itself there, or remove it"
            )
        if _SECRET.search(file.stem):
            raise InputError(f"{file} would be published, and its name speaks of a secret; move it out of {folder}")


def _send(api, folder: Path, repo: str, private: bool, files: tuple[str, ...]) -> str:
    """InputError with the hub's own reason."""
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        return str(
            api.upload_folder(
                repo_id=repo, folder_path=folder, allow_patterns=list(files), commit_message="Upload with zreward push"
            )
        )
    except hub_errors() as error:
        reason = shorten(" ".join(str(error).split()) or type(error).__name__, 300)
        raise InputError(f"{repo}: the hub did not take it ({reason}); `hf auth login` stores a token") from error
