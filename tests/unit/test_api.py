"""The functions for notebooks: light to import, exceptions for exits, the same study as the command line's."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import yaml
from conftest import TRIALS, Searched, run_python, write_recipe
from rich.console import Console

import nas
from nas import api, run
from nas.errors import InputError


@pytest.fixture(scope="module")
def study(searched: Searched) -> nas.Study:
    """The finished search as an object."""
    return nas.load(searched.folder)


def test_the_functions_are_there_and_import_nothing_until_they_are_used() -> None:
    run_python(
        "import sys, nas\n"
        "assert {'search', 'load', 'check', 'Study'} <= set(dir(nas)) and set(nas.__all__) <= set(dir(nas))\n"
        "assert not {'torch', 'ultralytics', 'optuna', 'pandas'} & set(sys.modules)\n"
        "try:\n"
        "    nas.serach\n"
        "except AttributeError as e:\n"
        "    assert 'serach' in str(e)\n"
        "else:\n"
        "    raise SystemExit('a name that is not there')\n"
        "from nas import search\n"
        "assert search is nas.search and 'optuna' in sys.modules\n"
    )


def test_python_values_make_the_recipe_that_the_command_line_makes() -> None:
    flags = {"data": "x.yaml", "trials": 7, "objectives": "map,gflops", "modules": ["mine.py"]}
    words = ["imgsz=320", "lr0=0.001", "seed=3", "epochs=2", "classes=[0,1]", "device=0"]
    values = {"imgsz": 320, "lr0": 0.001, "seed": 3, "epochs": 2, "classes": [0, 1], "device": "0"}
    assert api.resolve(None, flags | values) == run.resolve(None, flags, words)
    assert api.resolve(None, flags | {"train": {"imgsz": 64}, "objectives": ("map", "gflops")}).imgsz == 64
    assert api.resolve(None, {"data": Path("x.yaml"), "modules": (Path("mine.py"),)}).modules == ("mine.py",)


def test_without_data_it_is_the_demo() -> None:
    assert api.resolve(None, {"trials": 3}) == run.resolve(None, {"trials": 3}, [])
    assert api.resolve(None, {}).data == "demo"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"trails": 3}, "did you mean 'trials'?"),
        ({"imgzs": 64}, "did you mean 'imgsz'?"),
        ({"imgsz": 100}, "multiple of 32"),
        ({"trials": 0}, "trials"),
        ({"save": True}, "the search decides this itself"),
        ({"weights": "x.pt"}, "without --data"),
        ({"recipe": "nowhere.yaml"}, "no such file"),
        ({"data": "nowhere.yaml", "weights": "none"}, "nowhere.yaml"),
    ],
)
def test_what_is_wrong_with_the_input_is_an_exception(
    values: dict[str, object], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=expected.replace("?", r"\?")):
        nas.search(**values)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_the_front_is_the_one_of_the_files(study: nas.Study, searched: Searched) -> None:
    written = list(csv.DictReader((searched.folder / "trials.csv").open()))
    front = study.front
    assert list(front["trial"]) == [t.number for t in api.export.front_trials(searched.study)]
    assert {str(n) for n in front["trial"]} == {row["trial"] for row in written if row["front"] == "True"}
    assert front["map50_95"].is_monotonic_decreasing and front["map50_95_over_base"].map(math.isfinite).all()
    assert len(study.trials) == len(written)
    assert f"{TRIALS} placements" in repr(study) and str(searched.folder) in repr(study)
    assert study.recipe["trials"] == TRIALS


def test_the_picture_shows_every_trial(study: nas.Study) -> None:
    shown = {point for trace in study.plot().data if trace.mode == "markers" for point in trace.text or ()}
    assert {int(p.split("trial ")[1].split("<")[0]) for p in shown} == set(range(TRIALS))


def test_a_point_of_the_front_is_written_with_its_weights(study: nas.Study, tmp_path: Path) -> None:
    from ultralytics import YOLO

    number = int(study.front["trial"][0])
    point = study.export("best", to=tmp_path / "mine")
    assert point == study.export(number, to=tmp_path / "mine")
    assert point.yaml.is_file() and point.card.is_file() and point.weights is not None
    assert YOLO(point.weights).names == {0: "red", 1: "green"}
    assert point.label == study.front["placement"][0]


def test_a_point_beside_the_front_has_no_weights(study: nas.Study, tmp_path: Path) -> None:
    beside = set(study.trials["trial"]) - set(study.front["trial"])
    if not beside:
        pytest.skip("every trial is on the front")
    point = study.export(min(beside), to=tmp_path)
    assert point.weights is None and point.yaml.is_file() and not list(tmp_path.glob("*.pt"))


def test_what_is_not_there_is_an_exception(study: nas.Study, searched: Searched, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'knee'"):
        study.export("kne", to=tmp_path)
    with pytest.raises(InputError, match="did you mean 'first'"):
        nas.load("frist", output=searched.output)
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        nas.check("nowhere.yaml")


def test_a_dataset_is_checked(tiny_data: Path) -> None:
    found = nas.check(tiny_data)
    assert found.images == {"train": 8, "val": 4} and found.names == {0: "red", 1: "green"}


def test_python_continues_what_the_command_line_began(copied: Searched, capsys: pytest.CaptureFixture[str]) -> None:
    before = nas.load(copied.folder).trials["placement_id"].tolist()
    study = nas.search(copied.recipe, trials=TRIALS + 1)
    assert study.folder.samefile(copied.folder)
    assert study.trials["placement_id"].tolist()[:TRIALS] == before and len(study.trials) > TRIALS
    said = capsys.readouterr().out
    assert f"[{TRIALS + 1}/{TRIALS + 1}]" in said
    recipe = yaml.safe_load((copied.folder / "recipe.yaml").read_text())
    assert recipe["trials"] == TRIALS + 1


def test_a_notebook_gets_one_table_however_many_trials(
    tmp_path: Path, tiny_base: Path, tiny_space: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shells = pytest.importorskip("IPython.display")
    shown: list[str] = []

    class Handle:
        def update(self, table: object) -> None:
            console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
            console.print(table)
            shown.append(console.export_text())

    monkeypatch.setattr(api.notebook, "in_notebook", lambda: True)
    made: list[object] = []
    monkeypatch.setattr(shells, "display", lambda table, display_id: made.append(table) or Handle())
    recipe = write_recipe(
        tmp_path / "r.yaml", data=tiny_data, base=tiny_base, space=tiny_space, trials=2, output=tmp_path / "runs"
    )
    nas.search(recipe, name="notebook")
    assert len(made) == 1 and len(shown) == 3  # one a trial, one at the end
    assert "1 of 2 placements trained" in shown[0] and "2 of 2 placements trained" in shown[-1]
    assert "done" in shown[-1] and "Pareto front" in shown[-1]
    assert "trial 1" not in capsys.readouterr().out
