"""Import paths of version 0.1 lead to where the modules stand now, with a DeprecationWarning: programs outside keep working."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_COMMON = (
    *("bounded", "config", "errors", "files", "listening", "runs", "shards"),
    *("temporary", "text_files", "texts", "yaml_text"),
)
_INFERENCE = ("bulk", "scoring", "ranking", "contact_sheet")
_STUDIO = {
    "domain": (
        *("accounts", "adding", "audit", "import_files", "import_pictures", "importing", "measuring", "predictions"),
        *("quality_queue", "rubric_versions", "studies", "study_creation", "study_results"),
    ),
    "routes": (
        *("adjust", "annotate", "annotators", "context", "home", "people", "quality", "returning", "rubrics"),
        *("security", "sign_in"),
    ),
    "storage": ("database", "opening", "project", "study_pictures"),
}
MOVED = {
    **{f"zreward.{name}": f"zreward.common.{name}" for name in _COMMON},
    **{f"zreward.{name}": f"zreward.inference.{name}" for name in _INFERENCE},
    **{
        f"zreward.studio.{name}": f"zreward.studio.{layer}.{name}" for layer, names in _STUDIO.items() for name in names
    },
    "zreward.studio.export": "zreward.studio.domain.exporting",
    "zreward.studio.export_page": "zreward.studio.routes.export",
    "zreward.studio.hidden_items": "zreward.studio.routes.hidden",
    "zreward.studio.pictures": "zreward.studio.routes.picture",
    "zreward.studio.queue": "zreward.studio.domain.rating_queue",
    "zreward.studio.study_pages": "zreward.studio.routes.study",
    "zreward.studio.study_result_pages": "zreward.studio.routes.study_result",
    "zreward.client": "zreward.serving.client",
    "zreward.metrics": "zreward.evaluation.metrics",
    "zreward.plugins": "zreward.integrations",
    "zreward.report": "zreward.evaluation.report",
    "zreward.tables": "zreward.evaluation.tables",
}


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if _place(name) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        place = _place(spec.name)
        assert place is not None, "found by find_spec"
        warnings.warn(f"{spec.name} is now {place}; the old name will go", DeprecationWarning, stacklevel=2)
        return _Alias(spec.name, import_module(place))

    def exec_module(self, module: ModuleType) -> None:
        """The module that it stands for has run already."""


class _Alias(ModuleType):
    """Another name of a module: what is read from it is read there."""

    def __init__(self, name: str, module: ModuleType) -> None:
        super().__init__(name, module.__doc__)
        self.__dict__.update(_module=module, __path__=[])

    def __getattr__(self, name: str) -> object:
        return getattr(self.__dict__["_module"], name)


def _place(name: str) -> str | None:
    """Where a module of that name stands now; None for one that has not moved."""
    for old, new in MOVED.items():
        if name == old or name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return None


def install() -> None:
    """Once a process."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
