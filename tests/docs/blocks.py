"""The code blocks of a Markdown file, and the commands of a shell block."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDES = (ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md")))
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """`line` is that of the block's first line in its file."""

    guide: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.guide}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n```") % 2 == 0, f"{path}: a block without an end"
    return [
        Block(path.name, text.count("\n", 0, match.start()) + 2, match[1], match[2]) for match in _BLOCK.finditer(text)
    ]


def commands_of(block: Block) -> list[list[str]]:
    """The words of every command; comments are dropped, a backslash goes on with the next line, && is a line's end.

    A # inside a word begins no comment, as in a shell; shlex would take it for one.
    """
    lines = block.text.replace("\\\n", " ").splitlines()
    parts = [re.sub(r"(?<=[^\s'\"\\])#", r"\\#", part) for line in lines for part in line.split(" && ")]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


def without_blocks(path: Path) -> str:
    """The sentences of a Markdown file."""
    return _BLOCK.sub("", path.read_text(encoding="utf-8"))
