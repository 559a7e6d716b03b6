"""The pictures of imported labels: recognised by their bytes among those of the same prompt, else copied into the project."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from zreward.common.texts import check_prompt
from zreward.data.images import open_image
from zreward.studio.storage.picture_files import copy_imported, picture_bytes
from zreward.studio.storage.project import Project
from zreward.studio.storage.schema import CandidatePicture, PromptGroup


class ImportedPictures:
    """Finds or makes candidates: `added` counts those that it made, `copies` are the files that it put into the project."""

    def __init__(self, session: Session, project: Project) -> None:
        self.session, self.project = session, project
        self.copies: list[Path] = []
        self.added = 0
        self._by_prompt: dict[str, tuple[int | None, dict[str, int]]] = {}
        self._found: dict[tuple[Path | bytes, str], int] = {}

    def candidate(self, image: Path | bytes, prompt: str) -> int:
        """The id of a picture (a path, or encoded bytes) for a prompt. InputError when it cannot be read."""
        key = (image, prompt)
        if key not in self._found:
            self._found[key] = self._candidate(image, prompt)
        return self._found[key]

    def remove_copies(self) -> None:
        for path in self.copies:
            path.unlink(missing_ok=True)

    def _candidate(self, image: Path | bytes, prompt: str) -> int:
        check_prompt(prompt)
        content = picture_bytes(image)
        digest = hashlib.sha256(content).hexdigest()
        prompt_id, known = self._known(prompt)
        if digest in known:
            return known[digest]
        open_image(content)
        candidate = CandidatePicture(
            prompt_id=prompt_id or self._new_prompt(prompt),
            key=f"imported-{digest[:16]}-{hashlib.sha256(prompt.encode()).hexdigest()[:8]}",
            image=self._copy(content, digest, "" if isinstance(image, bytes) else image.suffix.lower()),
        )
        self.session.add(candidate)
        self.session.flush()
        self.added += 1
        known[digest] = candidate.id
        self._by_prompt[prompt] = (candidate.prompt_id, known)
        return candidate.id

    def _known(self, prompt: str) -> tuple[int | None, dict[str, int]]:
        """The prompt's id, if the project has it, and its pictures by digest."""
        if prompt not in self._by_prompt:
            rows = self.session.scalars(
                select(CandidatePicture).join(PromptGroup).where(PromptGroup.text == prompt)
            ).all()
            first = self.session.scalar(
                select(PromptGroup.id).where(PromptGroup.text == prompt).order_by(PromptGroup.id).limit(1)
            )
            files = ((self.project.file(row.image), row.id) for row in rows)
            known = {hashlib.sha256(file.read_bytes()).hexdigest(): number for file, number in files if file.is_file()}
            self._by_prompt[prompt] = (first, known)
        return self._by_prompt[prompt]

    def _new_prompt(self, text: str) -> int:
        prompt = PromptGroup(text=text, group=hashlib.sha256(text.encode()).hexdigest())
        self.session.add(prompt)
        self.session.flush()
        return prompt.id

    def _copy(self, content: bytes, digest: str, suffix: str) -> str:
        name, made = copy_imported(self.project, content, digest, suffix)
        if made:
            self.copies.append(self.project.folder / name)
        return name
