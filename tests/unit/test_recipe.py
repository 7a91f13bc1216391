"""Recipes: every fault at once, flags over the file, and an identity that changes with what decides a result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nas import recipe, run


def faults(data: dict[str, Any]) -> str:
    with pytest.raises(recipe.RecipeError) as e:
        recipe.read(None, data)
    return str(e.value)


def test_all_faults_are_told_at_once_one_a_line() -> None:
    text = faults(
        {
            "trials": 0,
            "sampler": "gpp",
            "objectives": ("map", "latncy"),
            "epoch": 3,
            "name": "a/b",
            "train": {"imgsz": 100, "batch": -1, "lr00": 1, "data": "x.yaml"},
        }
    )
    for part in (
        "trials: ",
        "sampler: ",
        "unknown objective 'latncy'; allowed: map, accuracy, latency, gflops; did you mean 'latency'?",
        "epoch: no such field; did you mean 'epochs'?",
        "got 'a/b'",
        "imgsz=100: expected one whole number, a multiple of 32 (for instance 96)",
        "batch=-1",
        "lr00=1: Ultralytics has no such argument; did you mean 'lr0'?",
        "data=x.yaml: the search decides this itself; use --data",
    ):
        assert part in text
    assert len(text.splitlines()) == 9


@pytest.mark.parametrize(
    ("objectives", "good"),
    [
        (("map", "latency"), True),
        (("map", "gflops"), True),
        (("map", "latency", "gflops"), True),
        (("map", "gflops", "latency"), True),
        (("map",), False),
        (("latency", "map"), False),
        (("map", "map"), False),
        (("accuracy", "latency"), True),
        (("map", "accuracy"), False),
        ((), False),
    ],
)
def test_objectives(objectives: tuple[str, ...], good: bool) -> None:
    if good:
        assert recipe.read(None, {"objectives": objectives}).objectives == objectives
    else:
        assert "objectives" in faults({"objectives": objectives})


@pytest.mark.parametrize("key", sorted(recipe.OURS))
def test_arguments_that_the_search_decides_are_refused(key: str) -> None:
    assert f"{key}=1: the search decides this itself" in faults({"train": {key: 1}})


@pytest.mark.parametrize("imgsz", [0, -32, 33, 100, 64.0, "64", True, [64, 64], None])
def test_an_image_size_that_is_no_multiple_of_32_is_refused(imgsz: object) -> None:
    if imgsz is None:
        assert recipe.read(None, {}).imgsz == 640
    else:
        assert "imgsz" in faults({"train": {"imgsz": imgsz}})


@pytest.mark.parametrize("value", [{"lr0": "fast"}, {"mosaic": 2.0}, {"workers": "two"}])
def test_values_that_ultralytics_refuses_are_refused_before_any_work(value: dict[str, Any]) -> None:
    (key,) = value
    assert key in faults({"train": value})


def test_flags_win_over_the_file_and_arguments_are_merged(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("data: a.yaml\ntrials: 7\nepochs: 2\ntrain: {imgsz: 64, batch: 4}\n")
    found = run.resolve(file, {"trials": 9, "data": None, "objectives": "map, gflops"}, ["imgsz=96", "epochs=5"])
    assert (found.data, found.trials, found.epochs, found.objectives) == ("a.yaml", 9, 5, ("map", "gflops"))
    assert (found.imgsz, found.train["batch"]) == (96, 4)
    assert found.train["optimizer"] == recipe.TRAIN_DEFAULTS["optimizer"]


def test_without_data_it_is_the_demo() -> None:
    found = run.resolve(None, {}, [])
    assert (found.data, found.name) == ("demo", "demo")


@pytest.mark.parametrize("argument", ["imgsz", "=3", "--imgsz=64", "imgsz="])
def test_an_argument_that_is_no_key_and_value_is_refused(argument: str) -> None:
    with pytest.raises(recipe.RecipeError, match=r"KEY=VALUE|argument"):
        run.parse([argument])


@pytest.mark.parametrize(
    "content",
    [
        b"", b"3", b"[1]", b"a: [", b"\xff\xfe\x00", b"1: 2\n", b"on: 1\n", b"train: 3\n", b"train: [1]\n",
        b"trials: {}\n", b"modules: mine.py\n", b"objectives: map\n", b"? [a, b]\n: 1\n",
    ],
)  # fmt: skip
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes(content)
    with pytest.raises(recipe.RecipeError):
        recipe.read(file, {})


keys = st.sampled_from([*recipe.Recipe.model_fields, "trails", "x"])
values = st.none() | st.booleans() | st.integers(-2, 5) | st.floats(0, 2) | st.text(max_size=3) | st.just({"imgsz": 64})


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(keys, values, max_size=4))
def test_whatever_a_file_says_is_a_recipe_or_a_recipe_error(tmp_path_factory, data: dict[str, Any]) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    file.write_text(yaml.safe_dump(data))
    try:
        found = recipe.read(file, {})
    except recipe.RecipeError as e:
        assert str(e)
    else:
        assert found.imgsz % 32 == 0
        json.dumps(found.model_dump(mode="json"))


def test_a_recipe_made_without_a_file_is_complete() -> None:
    assert recipe.Recipe().imgsz == 640


def test_identity_changes_with_all_that_decides_a_result_and_with_nothing_else() -> None:
    def digest(**changes: Any) -> str:
        found = {k: changes.pop(k, k) for k in ("data_digest", "device", "torch")}
        return recipe.digest(recipe.read(None, changes).identity(**found))

    start = digest()
    same = (
        {"name": "x"}, {"trials": 3}, {"storage": "sqlite://"}, {"output": "y"}, {"train": {"workers": 0}},
    )  # fmt: skip
    other = (
        {"seed": 1}, {"epochs": 4}, {"warm_epochs": 1}, {"warm_lr0": 0.1}, {"block_lr_factor": 2.0}, {"wire": "plain"},
        {"objectives": ("map", "gflops")}, {"max_gflops": 9.0}, {"train": {"imgsz": 320}}, {"train": {"mosaic": 1.0}},
        {"train": {"batch": 8}}, {"data_digest": "x"}, {"device": "x"}, {"torch": "x"},
    )  # fmt: skip
    assert {digest(**c) for c in same} == {start}
    assert len({start, *(digest(**c) for c in other)}) == 1 + len(other)


def test_near() -> None:
    assert recipe.near("latncy", recipe.OBJECTIVES) == "; did you mean 'latency'?"
    assert recipe.near("zzzzzz", recipe.OBJECTIVES) == ""
