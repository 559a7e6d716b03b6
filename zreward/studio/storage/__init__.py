"""What the studio remembers: the project folder, its database and its pictures.

Names that stood here when this was one module, `schema`, are still found.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_RENAMED = {"Base": "StudioTable", "Candidate": "CandidatePicture", "Prompt": "PromptGroup"}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(import_module("zreward.studio.storage.schema"), _RENAMED.get(name, name))
