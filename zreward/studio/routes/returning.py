"""Redirects back to the page that a form was on, with a notice of what was done."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import Response
from fastapi.responses import RedirectResponse

NOTICES = {
    "changed": "An annotator has changed a label meanwhile. It was left alone; look at it again.",
    "saved": "Saved.",
    "suggested": "Suggested. It appears beside the rubric once quality control accepts it.",
}
"""Notices by the name that the address holds: a forged address cannot show other texts."""
_OWN = re.compile(r"/(?:[^/\\\s\x00-\x20\x7f][^\\\s\x00-\x20\x7f]{0,2000})?")
"""A path of this studio: one slash, and nothing that a browser reads as something else."""


def back_to(page: str, home: str, notice: str = "") -> Response:
    """Redirect to `page` of the studio, to `home` when it is none: nobody is sent elsewhere by a forged form."""
    parts = urlsplit(page if _OWN.fullmatch(page) else home)
    query = [(key, value) for key, value in parse_qsl(parts.query) if key != "notice"]
    query += [("notice", notice)] if notice else []
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    return RedirectResponse(parts.path + (f"?{urlencode(query)}" if query else "") + fragment, status_code=303)
