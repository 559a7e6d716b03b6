"""Pictures: small, kept, only for who is signed in, and nothing else of the machine."""

from __future__ import annotations

import io

import pytest
from fastapi.testclient import TestClient
from PIL import Image, PngImagePlugin

from zreward.studio.storage.picture_cache import CACHE, WIDTHS
from zreward.studio.storage.schema import CandidatePicture


def put(session, number: int, image: str) -> None:
    session.get(CandidatePicture, number).image = image
    session.commit()


@pytest.fixture
def ann(signed_in):
    return signed_in("annotator", "ann")


@pytest.mark.parametrize("size", [(3000, 1500), (900, 1800), (100, 40)])
@pytest.mark.parametrize("width", [None, *WIDTHS])
def test_resized_to_fit_and_never_enlarged(ann, project, session, size, width):
    Image.new("RGB", size, "teal").save(project.folder / "images" / "large.jpg")
    put(session, 1, "images/large.jpg")
    answer = ann.get("/pictures/1", params={} if width is None else {"width": width})
    most = width or max(WIDTHS)
    scale = min(1.0, most / max(size))
    picture = Image.open(io.BytesIO(answer.content))
    assert answer.headers["content-type"] == "image/png" and picture.format == "PNG"
    assert picture.size == tuple(round(side * scale) for side in size)


def test_what_the_browser_has_is_not_sent_again(ann, project):
    first = ann.get("/pictures/1?width=320")
    assert first.headers["cache-control"].startswith("private, max-age=")
    again = ann.get("/pictures/1?width=320", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert ann.get("/pictures/1?width=160").headers["etag"] != first.headers["etag"]
    assert ann.get("/pictures/2?width=320").headers["etag"] != first.headers["etag"]


def test_resized_once_and_anew_when_the_file_changes(ann, project):
    first = ann.get("/pictures/1?width=160")
    (kept,) = (project.folder / CACHE).rglob("*.png")
    made = kept.stat().st_mtime_ns
    assert ann.get("/pictures/1?width=160").content == first.content and kept.stat().st_mtime_ns == made
    Image.new("RGB", (60, 60), "teal").save(project.folder / "images" / "1-0.png")
    changed = ann.get("/pictures/1?width=160", headers={"if-none-match": first.headers["etag"]})
    assert changed.status_code == 200 and changed.content != first.content


def test_metadata_stays_behind(ann, project, session):
    secret = PngImagePlugin.PngInfo()
    secret.add_text("Software", "made by system B")
    Image.new("RGB", (20, 20), "teal").save(project.folder / "images" / "told.png", pnginfo=secret)
    put(session, 1, "images/told.png")
    assert b"system B" not in ann.get("/pictures/1").content


def test_nobody_who_is_not_signed_in_sees_any(app, project):
    stranger = TestClient(app, follow_redirects=False)
    answer = stranger.get("/pictures/1")
    assert answer.status_code == 303 and answer.headers["location"].startswith("/sign-in")
    assert not (project.folder / CACHE).exists()


@pytest.mark.parametrize(
    "image", ["../outside.png", "link/outside.png", ".secret", "studio.sqlite", "images", "images/no.png"]
)
def test_other_files_are_neither_sent_nor_named(ann, project, session, image):
    Image.new("RGB", (8, 8)).save(project.folder.parent / "outside.png")
    (project.folder / "link").symlink_to(project.folder.parent)
    put(session, 1, image)
    answer = ann.get("/pictures/1")
    assert answer.status_code == 404
    assert str(project.folder) not in answer.text and image not in answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/pictures/999", 404),
        (f"/pictures/{10**30}", 404),
        ("/pictures/-1", 404),
        ("/pictures/../project.yaml", 404),
        ("/pictures/..%2fproject.yaml", 404),
        ("/pictures/%2e%2e%2f%2e%2e%2fetc%2fpasswd", 404),
        ("/static/../storage.py", 404),
        ("/static/..%2fstorage.py", 404),
        ("/pictures/1?width=161", 400),
        ("/pictures/1?width=-1", 400),
        ("/pictures/1?width=wide", 422),
    ],
)
def test_other_addresses_are_refused(ann, path, status):
    assert ann.get(path).status_code == status
