"""What the user can mend: one clear message, the nearest match, exit status 2, no traceback, nothing left behind.

The faulty inputs are those of bad_data.py, bad_recipes.py, bad_models.py and bad_commands.py.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import bad_commands
import bad_data
import bad_models
import bad_recipes
import pytest
from bad_support import Case, Ready
from conftest import Result, make_dataset, write_recipe

from nas import data, weights
from nas.demo import cache_folder

CASES = (*bad_data.CASES, *bad_recipes.CASES, *bad_models.CASES, *bad_commands.CASES)
MOST_CHARACTERS, MOST_SECONDS = 2000, 30
KEPT = "plug-ins.txt"  # which files of blocks this user has named; meant to stay


@pytest.fixture(scope="session")
def pattern(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, tiny_space: Path) -> Path:
    """A folder with all that a good search needs; copied, never used itself."""
    folder = tmp_path_factory.mktemp("pattern")
    make_dataset(folder / "own", 4, 2)
    shutil.copy(tiny_base, folder / "tiny.yaml")
    shutil.copy(tiny_space, folder / "small.yaml")
    return folder


@pytest.fixture
def ready(pattern: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Ready:
    """A copy of it, with a recipe that would run, as the folder that the command is started in."""
    found = Ready(tmp_path_factory.mktemp("t") / "r")  # a path that no message is looked for
    shutil.copytree(pattern, found.tmp)
    write_recipe(
        found.recipe, data=found.data, base=found.base, space=found.space, trials=2, name="x",
        output=found.tmp / "runs",
    )  # fmt: skip
    cache_folder().mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(found.tmp)
    return found


def listing(*folders: Path) -> dict[str, int]:
    """Every file and folder below some folders, with the file's size."""
    found = [p for folder in folders for p in folder.rglob("*") if p.name != KEPT]
    return {str(p): p.lstat().st_size if p.is_file() or p.is_symlink() else -1 for p in found}


def words(text: str) -> str:
    """A message without the borders of a box and with single spaces."""
    return " ".join(text.replace("│", " ").split())


def assert_told(result: Result, parts: tuple[str, ...]) -> None:
    """Status 2, and one clear message on stderr."""
    assert result.code == 2, result.text[-2000:]
    assert "Traceback" not in result.text
    lines = [line for line in result.err.splitlines() if line.strip()]
    if "Usage:" not in result.err:  # else it is typer's box
        assert [line for line in lines if not line.startswith(("error: ", "  "))] == []
    assert any("error" in line.lower() for line in lines)
    assert len(result.err) <= MOST_CHARACTERS
    assert all(c.isprintable() or c == "\n" for c in result.err)
    assert "secret" not in result.text
    for part in parts:
        assert part in words(result.err), result.err


def test_there_are_many() -> None:
    assert len(CASES) == len({case.name for case in CASES}) >= 90


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_faulty_input(case: Case, cli, ready: Ready, request: pytest.FixtureRequest) -> None:
    case.damage(ready)
    watched, places = [ready.tmp, cache_folder().parent], {"<tmp>": str(ready.tmp)}
    if any("<searched>" in arg for arg in case.args):
        places["<searched>"] = str(request.getfixturevalue("searched").output)
        watched.append(Path(places["<searched>"]))
    args = list(case.args)
    for place, path in places.items():
        args = [arg.replace(place, path) for arg in args]
    before, started = listing(*watched), time.monotonic()
    result = cli(*args)
    seconds = time.monotonic() - started
    assert_told(result, case.parts)
    assert listing(*watched) == before
    assert seconds < MOST_SECONDS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_the_recipe_that_they_damage_is_good(encoding: str, cli, ready: Ready) -> None:
    """With a byte-order mark too, as some editors write one."""
    for file in (ready.recipe, ready.data, ready.base, ready.space):
        file.write_text(file.read_text(), encoding=encoding)
    result = cli("search", "--recipe", ready.recipe, "--trials", "1")
    assert result.code == 0, result.text[-2000:]
    assert (ready.tmp / "runs" / "x" / "study.db").is_file()


def test_nothing_is_downloaded_for_what_is_refused_anyway(cli, ready: Ready, monkeypatch) -> None:
    monkeypatch.setattr(weights, "find", lambda name: pytest.fail(f"{name} would be downloaded"))
    ready.data.unlink()
    assert_told(cli("search", "--recipe", ready.recipe, "--weights", "yolov10n.pt"), ("data.yaml",))


def test_some_bad_images_and_labels_are_a_warning(ready: Ready) -> None:
    ready.images("train")[0].write_bytes(b"no image")
    ready.labels("train")[1].write_text("0 nan 0.5 0.1 0.1\n")
    found = data.check(ready.data)
    assert found.images["train"] == 4 and found.labels["train"] == 4
    assert "1 of 4 images cannot be opened" in found.warnings[0]
    assert "1 of 4 images have unusable labels" in found.warnings[1]
