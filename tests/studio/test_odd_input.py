"""Whatever somebody sends, a page answers with a status and a reason: no traceback, and nobody is sent elsewhere."""

from __future__ import annotations

import itertools

import pytest

from tests.studio.test_security import addresses, filled
from zreward.studio.routes.forms import LONGEST, SHORT
from zreward.studio.routes.returning import back_to

ODD = (
    "", " ", "\x00", "a\x00b", "\x1b[31m", "\x7f", "-1", "0", "1e400", "nan", "inf", "9" * 40, "٣", "½", "true", "None", "{}",
    "[]", "'", '"', "\\", "' OR 1=1 --", "%s%n", "{0}", "{{7*7}}", "../../etc/passwd", "=1+1", "@SUM(A1)", "x" * 300,
    "x" * (LONGEST + 1), "\u202e", "😀" * 50, "\r\nSet-Cookie: a=b", "a" * 100 + "\n",
)  # fmt: skip
ELSEWHERE = (
    "//evil.example", "///evil.example", "\\\\evil.example", "/\\evil.example", "/\t/evil.example", "\t//evil.example",
    "/\n/evil.example", "http://evil.example", "HTTPS:evil.example", "javascript:alert(1)", "data:text/html,x",
    "//[::1", " //evil.example",
    "/%0d%0aSet-Cookie:a=b", "/\r\nSet-Cookie: a=b", "/%5cevil.example", "//evil.example/%2f..",
    "/\x00", "", "evil", "?next=x", "#x", "/" + "x" * 30000,
)  # fmt: skip


def parameters(app, path: str, method: str) -> tuple[list[str], list[str]]:
    """Names of an address's query parameters, and of its form's fields."""
    about = app.openapi()
    operation = about["paths"][path][method]
    query = [one["name"] for one in operation.get("parameters", []) if one["in"] == "query"]
    fields: list[str] = []
    for content in operation.get("requestBody", {}).get("content", {}).values():
        fields += about["components"]["schemas"][content["schema"]["$ref"].rsplit("/", 1)[1]]["properties"]
    return query, fields


GOOD = {"candidate": "1", "dimension": "alignment", "score": "3", "answer": "3", "token": "0" * 32, "count": "1",
        "active": "true", "name": "x", "role": "annotator", "label": "1", "labels": "1:3", "shift": "0", "comment": "x",
        "excluded": "true", "side": "left", "repeated": "true", "aspect": "overall",
        "password": "x" * 12, "again": "x" * 12}  # fmt: skip


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 4])
@pytest.mark.parametrize("role", ["annotator", "administrator"])
def test_odd_values_are_answered_with_a_reason(app, signed_in, role, every):
    """Every fourth value for each name by default, other ones for the next name."""
    client, turn = signed_in(role, "somebody"), itertools.count()
    asked = 0
    for path in addresses(app, "get"):
        for name in parameters(app, path, "get")[0]:
            for value in ODD[next(turn) % every :: every]:
                answer = client.get(filled(path), params={name: value})
                assert answer.status_code < 500 and "\nSet-Cookie" not in str(answer.headers), (path, name, value)
                asked += 1
    for path in addresses(app, "post"):
        if path in ("/sign-in", "/sign-out"):
            continue
        _, fields = parameters(app, path, "post")
        for name in fields:
            for value in ODD[next(turn) % every :: every]:
                form = {key: GOOD.get(key, "") for key in fields} | {name: value}
                answer = client.post(filled(path), data=form)
                assert answer.status_code < 500, (path, name, value)
                asked += 1
    assert asked > 300 / every


SURROGATE = b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n\\ud800\r\n--x--\r\n'


@pytest.mark.parametrize(
    ("kind", "content", "status"),
    [
        ("multipart/form-data; boundary=x; charset=unicode_escape", SURROGATE, 415),
        ("multipart/form-data; boundary=x; charset=idna", b"--x--\r\n", 415),
        ("application/x-www-form-urlencoded; charset=utf-16", b"name=x", 415),
        ("multipart/form-data", b"name=x", 400),
        ("multipart/form-data; boundary=x", b"--y", 400),
        ("multipart/form-data; boundary=", b"", 422),
        ("application/x-www-form-urlencoded", b"name=%ED%A0%80&role=annotator", 200),  # read as U+FFFD
        ("application/x-www-form-urlencoded", b"name=%00&role=annotator", 422),
        ("application/x-www-form-urlencoded", b"&" * SHORT, 422),
        ("application/json", b'{"name": "x", "role": "annotator"}', 422),
        ("text/plain", b"name=x", 422),
        ("\xff", b"name=x", 422),
    ],
)  # fmt: skip
def test_odd_bodies_are_refused_with_a_status(signed_in, kind, content, status):
    client = signed_in("administrator")
    answer = client.post("/people", content=content, headers={b"content-type": kind.encode("latin-1")})
    assert answer.status_code == status and answer.text


@pytest.mark.parametrize("page", ELSEWHERE)
def test_nobody_is_sent_elsewhere(page):
    location = back_to(page, "/home").headers["location"]
    assert location.startswith("/") and not location.startswith(("//", "/\\"))
    assert not set("\r\n\t\x00\\") & set(location) and len(location) < 3000
