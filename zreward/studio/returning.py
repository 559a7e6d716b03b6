"""Back to the page that a form was on, with a word about what happened there."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import Response
from fastapi.responses import RedirectResponse

NOTICES = {
    "changed": "An annotator has changed a label meanwhile. It was left alone; look at it again.",
    "saved": "Saved.",
    "suggested": "Suggested. It stands beside the rubric when quality control has accepted it.",
}
"""Named in the address, so that nobody can put words of his own there."""


def back_to(page: str, home: str, notice: str = "") -> Response:
    """Redirect to `page` of the studio, to `home` when it is none: nobody is sent elsewhere by a forged form."""
    parts = urlsplit(page)
    if parts.scheme or parts.netloc or "\\" in page or not re.match(r"/(?!/)", page):
        parts = urlsplit(home)
    query = [(key, value) for key, value in parse_qsl(parts.query) if key != "notice"]
    query += [("notice", notice)] if notice else []
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    return RedirectResponse(parts.path + (f"?{urlencode(query)}" if query else "") + fragment, status_code=303)
