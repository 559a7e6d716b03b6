"""The oracle as a judge of pictures of the world, from Python and from the command line."""

import json

import pytest

from zreward.cli.main import main
from zreward.generation.judges import load_judge
from zreward.world.grammar import parse_prompt
from zreward.world.renderer import render
from zreward.world.scenes import DIMENSIONS, PlacedObject, Scene


def scene(**changes) -> Scene:
    circle = PlacedObject("large", changes.pop("colour", "red"), "circle", (8.5, 8.5), 0)
    return Scene(parse_prompt("a large red circle"), (circle,), **changes)


def test_the_oracle_judges_pictures_of_the_world():
    prompt = "a large red circle"
    pictures = [render(scene()), render(scene(colour="blue")), render(scene(noise=2))]
    scores = load_judge("oracle")(pictures, [prompt] * 3)
    assert scores[0].tolist() == [5.0] * 4
    assert scores[1, DIMENSIONS.index("alignment")] == 4.0
    assert scores[2, DIMENSIONS.index("realism")] == 3.0


def test_compare_on_the_command_line(tmp_path, monkeypatch, capsys):
    for name, noise in (("before", 2), ("after", 0)):
        (tmp_path / name).mkdir()
        render(scene(noise=noise)).save(tmp_path / name / "0.png")
        row = {"image": "0.png", "prompt": "a large red circle", "seed": 7}
        (tmp_path / name / "pictures.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.chdir(tmp_path)
    command = ["zreward", "compare", "before", "after", "--judge", "oracle", "--out", "page.html", "--json", "gsb.json"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None)
    stored = json.loads((tmp_path / "gsb.json").read_text())
    assert (stored["gsb"], stored["good"], stored["after"]["realism"]) == (1.0, 1, 5.0)
    assert stored["by_dimension"]["alignment"]["same"] == 1
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png") == 2 and "a large red circle: good" in page
    assert "Good, same, bad" in capsys.readouterr().out
