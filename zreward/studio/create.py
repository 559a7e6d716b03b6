"""`zreward studio init`: a project from a folder of pictures, from records, or from the built-in world.

The project appears whole, or not at all. Pictures are copied in, so that nothing outside the folder is needed later.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

from sqlalchemy.orm import Session
from tqdm import tqdm

from zreward.data import load_records
from zreward.data.images import open_image
from zreward.data.manifest import MANIFEST, read_manifest
from zreward.errors import InputError, check_counts
from zreward.rubric import Rubric
from zreward.studio import accounts
from zreward.studio.database import connect, sessions, upgrade
from zreward.studio.project import Project, ProjectSettings, write_settings
from zreward.studio.rubric_versions import add_version
from zreward.studio.storage import Candidate, Gold, Prompt, Repetition

MOST_GROUP = 200  # letters
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
GOLD_SHARE, REPEATED_SHARE = 0.15, 0.1  # of a try-out's pictures, per dimension


@dataclass(frozen=True)
class Picture:
    """A candidate to be: `image` is a path or encoded bytes; `truth` (the world's) makes gold items."""

    prompt: str
    image: Path | bytes
    key: str
    group: str | None = None
    split: str | None = None
    tags: tuple[str, ...] = ()
    truth: dict[str, float] = field(default_factory=dict)


def init(
    folder: Path,
    pictures: Iterable[Picture],
    rubric: Rubric,
    settings: ProjectSettings,
    administrator: str = "admin",
    seed: int = 0,
) -> str:
    """Make the project; returns the token of the administrator's invitation. InputError where `folder` holds something."""
    with _new_folder(folder) as made:
        write_settings(made, settings)
        project = Project(made)
        project.secret()
        engine = connect(project.database_url)
        upgrade(engine)
        try:
            with sessions(engine)() as session:
                add_version(session, rubric)
                _add_pictures(session, project, pictures, rubric, random.Random(f"studio {seed}"))
                _, token = accounts.invite(session, administrator, "administrator")
        finally:
            engine.dispose()
    return token


def from_folder(folder: Path, prompt: str | None = None) -> Iterator[Picture]:
    """Pictures of a folder: by its pictures.jsonl, or all of one `prompt`."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if (folder / MANIFEST).exists():
        for row in read_manifest(folder):
            yield Picture(row["prompt"], folder / row["image"], f"{Path(row['image']).stem}", tags=tuple(row["tags"]))
        return
    if not prompt or not prompt.strip():
        raise InputError(
            f"{folder}: there is no {MANIFEST} in it; give --prompt, the text that its pictures were made from"
        )
    found = sorted(file for file in folder.iterdir() if file.suffix.lower() in ENDINGS)
    if not found:
        raise InputError(f"{folder}: no pictures in it; expected files that end in {', '.join(ENDINGS)}")
    yield from (Picture(prompt, file, file.stem) for file in found)


def from_records(path: Path) -> Iterator[Picture]:
    """Records as training reads them (.jsonl, .parquet); ratings in them are not taken over (`zreward studio import`)."""
    for number, record in enumerate(load_records(path)):
        image = Path(record.image) if isinstance(record.image, str) else record.image
        assert isinstance(image, Path | bytes)
        yield Picture(
            record.prompt,
            image,
            record.id or f"{path.stem}-{number:06d}",
            record.group,
            record.split,
            tuple(record.tags),
        )


def from_world(prompts: int, candidates: int = 4, seed: int = 0) -> Iterator[Picture]:
    """Scenes of the built-in world, with their truth on every dimension."""
    from zreward.world.dataset import png
    from zreward.world.grammar import sample_prompts
    from zreward.world.scenes import DIMENSIONS, sample_scene

    check_counts(prompts=prompts, candidates=candidates)
    rng = random.Random(f"studio world {seed}")
    for number, prompt in enumerate(sample_prompts(prompts, rng)):
        for candidate in range(candidates):
            scene = sample_scene(prompt, rng)
            truth = {name: round(scene.truth(name) * 2) / 2 for name in DIMENSIONS}
            yield Picture(prompt.text, png(scene), f"world-{number:04d}-{candidate}", truth=truth)


def _add_pictures(
    session: Session, project: Project, pictures: Iterable[Picture], rubric: Rubric, rng: random.Random
) -> None:
    groups: dict[str, Prompt] = {}
    keys: set[str] = set()
    for picture in tqdm(pictures, desc="copying", unit="picture"):
        if not picture.prompt.strip():
            raise InputError(f"picture {picture.key!r} has an empty prompt")
        if picture.key in keys:
            raise InputError(f"two pictures are called {picture.key!r}; expected one name each")
        keys.add(picture.key)
        group = picture.group or hashlib.sha256(picture.prompt.encode()).hexdigest()
        if len(group) > MOST_GROUP:
            raise InputError(f"picture {picture.key!r}: a group of {len(group)} letters; expected at most {MOST_GROUP}")
        if group not in groups:
            groups[group] = Prompt(text=picture.prompt, group=group, tags=list(picture.tags), split=picture.split)
            session.add(groups[group])
            session.flush()
        candidate = Candidate(prompt_id=groups[group].id, key=picture.key[:200], image=_copy(project, picture))
        session.add(candidate)
        session.flush()
        for name, score in picture.truth.items():
            if name in rubric.dimension_names and rng.random() < GOLD_SHARE:
                session.add(Gold(candidate_id=candidate.id, dimension=name, score=score))
            if name in rubric.dimension_names and rng.random() < REPEATED_SHARE:
                session.add(Repetition(candidate_id=candidate.id, dimension=name))
    if not keys:
        raise InputError("there are no pictures; a project needs at least one")
    session.commit()


def _copy(project: Project, picture: Picture) -> str:
    """The picture as it is, checked by decoding it, under a name made of its bytes."""
    try:
        content = picture.image if isinstance(picture.image, bytes) else picture.image.read_bytes()
    except OSError as error:
        raise InputError(f"{picture.image}: cannot be read: {error.strerror or error}") from error
    try:
        open_image(content)
    except InputError as error:
        what = picture.key if isinstance(picture.image, bytes) else str(picture.image)
        raise InputError(f"{what}: {error}") from None
    name = f"images/{hashlib.sha256(content + picture.key.encode()).hexdigest()[:32]}"
    path = project.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return name


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that becomes it when the block ends well."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists already and is not an empty folder; name a new one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield made
        if folder.exists():
            folder.rmdir()
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
