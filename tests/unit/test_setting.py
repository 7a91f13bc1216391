"""What trials share, made from a recipe: the study's name, what the space lost, what the base costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import run_python, write_recipe

from nas import cost, recipe, setting, weights
from search_spaces import Placement


@pytest.fixture
def prepared(tmp_path: Path, tiny_data: Path, tiny_base: Path, tiny_space: Path):
    """Prepare a tiny recipe with changes."""

    def make(**changes: Any) -> setting.Setting:
        values = {"data": tiny_data, "base": tiny_base, "space": tiny_space, "output": tmp_path / "runs"}
        return setting.prepare(recipe.read(write_recipe(tmp_path / "r.yaml", **(values | changes)), {}))

    return make


def test_a_study_is_named_after_the_datasets_folder(prepared, tiny_data: Path) -> None:
    assert prepared().recipe.name == f"{tiny_data.parent.name}-small"


def test_a_dataset_in_the_working_directory_gives_its_folders_name(prepared, own_data: Path, monkeypatch) -> None:
    monkeypatch.chdir(own_data.parent)
    assert prepared(data="data.yaml").recipe.name == "own-small"


def test_a_prediction_is_what_the_built_model_costs(prepared) -> None:
    s = prepared()
    for blocks in ({}, {"neck.p3": "eca"}, {"neck.p4": "simam", "backbone.p4": "eca"}):
        placement = Placement.of(blocks)
        graft = setting.graph.insert(s.yaml, placement)
        model = weights.build(graft.yaml, s.dataset.names)
        count, flops = s.predict(placement)
        assert count == cost.params(model)
        assert flops == pytest.approx(cost.gflops(model, 64), rel=1e-9)


def test_a_block_that_cannot_stand_at_a_site_is_left_out_there_with_a_note(prepared, tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump({"blocks": ["eca", "mhsa"], "sites": ["neck.p3", "neck.p4"], "max_tokens": 16}))
    s = prepared(space=file)
    assert s.space.choices("neck.p3") == ("none", "eca")
    assert s.space.choices("neck.p4") == ("none", "eca", "mhsa")
    (note,) = s.notes
    assert "left out: mhsa at neck.p3" in note
    assert "64" in note, "its number of tokens"


def test_limits_are_told_in_words(prepared) -> None:
    s = prepared(max_params=10**9, max_gflops=1.0, max_latency_ms=10**6)
    assert s.beyond(5, 0.5) is None
    assert "GFLOPs 2 above the limit of 1" in s.beyond(5, 2.0)
    assert s.beyond(5, 0.5, 1e7).startswith("latency")


@pytest.mark.parametrize("asked", ["", "1", "3"])
def test_threads_are_those_that_the_user_asked_for_or_all_cores(asked: str, monkeypatch) -> None:
    """Ultralytics sets OMP_NUM_THREADS to 1 as soon as it is imported, which is nobody's wish."""
    import os

    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    found = run_python("import nas; import ultralytics; from nas.setting import threads; print(threads())")
    assert int(found.split()[-1]) == (int(asked) if asked else len(os.sched_getaffinity(0)))
