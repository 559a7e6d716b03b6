"""Pictures inside a page: reduced where they are large, enlarged pixel by pixel where they are tiny."""

from __future__ import annotations

import base64
import io

from PIL import Image

THUMBNAIL = 512  # pixels along the longer side: larger images are reduced
STRIP = 1600  # the same for a strip of many pictures
_PIXELATED = 128  # images up to this size are enlarged pixel by pixel


def embed(image: Image.Image, longest: int = THUMBNAIL) -> tuple[str, bool]:
    """A data URI of at most `longest` pixels along the longer side, and whether the page should enlarge it pixel by pixel."""
    image = image.convert("RGB")
    pixelated = max(image.size) <= _PIXELATED
    image.thumbnail((longest, longest))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(), pixelated
