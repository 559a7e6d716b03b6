"""For `make test-vllm`: lets torchvision's CUDA build be imported beside a CPU build of torch.

Its compiled operators do not load there, and its Python files register implementations for two of them all the same. Declaring
these two is enough: nothing here calls them. Run it with the environment's own Python.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

DECLARATION = """
if not _has_ops():  # declared for a CPU build of torch (zreward)
    _declared = torch.library.Library("torchvision", "DEF")
    _declared.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def main() -> None:
    found = find_spec("torchvision")
    assert found is not None and found.origin is not None, "torchvision is not installed"
    file = Path(found.origin).parent / "extension.py"
    text = file.read_text(encoding="utf-8")
    if 'Library("torchvision", "DEF")' not in text:
        file.write_text(text + DECLARATION, encoding="utf-8")


if __name__ == "__main__":
    main()
