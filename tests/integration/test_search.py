"""A whole search through the command line: what it leaves behind fits together and is what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from conftest import TRIALS, Searched
from integration_support import ids
from optuna.trial import TrialState
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel

from nas import export, front
from search_spaces import Placement, load


def test_the_folder_holds_what_was_promised(searched: Searched) -> None:
    top = {p.name for p in searched.folder.iterdir()}
    assert {"study.db", "recipe.yaml", "trials.csv", "pareto.html", "front", "weights", "log.txt"} <= top
    left = [p.name for p in searched.folder.rglob("*") if p.name.endswith(".part") or p.name.startswith(".front")]
    assert left == []
    points = export.front_trials(searched.study)
    names = {export.point_name(t) + end for t in points for end in (".yaml", ".pt", ".json")}
    assert {p.name for p in (searched.folder / "front").iterdir()} == names
    assert {p.name for p in (searched.folder / "weights").iterdir()} == {f"{t.number}.pt" for t in points}


def test_as_many_distinct_placements_as_asked_the_base_first(searched: Searched) -> None:
    trials = searched.study.trials
    assert all(t.state == TrialState.COMPLETE for t in trials)
    assert len(ids(searched.study)) == len(set(ids(searched.study))) == TRIALS
    assert trials[0].user_attrs["placement"] == {}
    assert all(t.user_attrs["placement"] for t in trials[1:])
    for t in trials:
        assert Placement.from_json(t.user_attrs["placement"]).id == t.user_attrs["placement_id"]
        assert len(t.params) == 3, "every site in every trial"


def test_all_trials_saw_the_same_batches(searched: Searched) -> None:
    assert len({t.user_attrs["score"]["batches_sha"] for t in searched.study.trials}) == 1


def test_values_are_the_score_and_the_costs(searched: Searched) -> None:
    study = searched.study
    assert study.metric_names == ["mAP50-95", "latency (x base)", "GFLOPs"]
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    for t in study.trials:
        score, cost = t.user_attrs["score"], t.user_attrs["cost"]
        assert t.values == [score["value"], cost["latency"]["ratio"], cost["gflops"]]
        assert (score["head"], score["split"], score["epochs"], score["images_seen"]) == (
            "one2many",
            "val",
            1,
            8,
        )
        assert cost["latency"]["runs"] == 3
        assert set(t.user_attrs["versions"]) == {"nas", "torch", "ultralytics", "optuna"}


def test_csv_says_what_the_study_says(searched: Searched) -> None:
    frame = pd.read_csv(searched.folder / "trials.csv")
    trials = searched.study.trials
    assert list(frame["trial"]) == [t.number for t in trials]
    assert set(frame["state"]) == {"complete"}
    assert list(frame["placement_id"].astype(str)) == [t.user_attrs["placement_id"] for t in trials]
    assert list(frame["map50_95"]) == pytest.approx([t.values[0] for t in trials])
    assert list(frame["latency_ratio"]) == pytest.approx([t.values[1] for t in trials])
    assert list(frame["gflops"]) == pytest.approx([t.values[2] for t in trials])
    on_front = {t.number for t in export.front_trials(searched.study)}
    assert set(frame.loc[frame["front"], "trial"]) == on_front


def test_the_front_is_the_pareto_front(searched: Searched) -> None:
    trials = searched.study.trials
    rows = front.pareto([t.values for t in trials], ["maximize", "minimize", "minimize"])
    assert rows
    assert [trials[i].number for i in rows] == [t.number for t in export.front_trials(searched.study)]


def test_every_point_builds_loads_and_has_its_card(searched: Searched) -> None:
    for file in (searched.folder / "front").glob("*.yaml"):
        card = json.loads(file.with_suffix(".json").read_text())
        trial = searched.study.trials[card["trial"]]
        built = DetectionModel(str(file), verbose=False)
        loaded = YOLO(file.with_suffix(".pt")).model
        assert built.yaml["nc"] == 2
        assert [type(m).__name__ for m in built.model] == [type(m).__name__ for m in loaded.model]
        assert sum(type(m).__name__ == "Attend" for m in built.model) == len(card["placement"])
        assert sum(p.numel() for p in built.parameters()) == card["cost"]["params"]
        shapes = {k: v.shape for k, v in built.state_dict().items()}
        assert {k: v.shape for k, v in loaded.state_dict().items()} == shapes
        assert loaded.names == {0: "red", 1: "green"}
        with torch.no_grad():
            assert loaded.float().eval()(torch.zeros(1, 3, 64, 64))
        assert card["study"] == "first"
        assert card["placement_id"] == trial.user_attrs["placement_id"]
        assert list(card["values"].values()) == trial.values
        assert card["score"] == trial.user_attrs["score"]
        assert card["cost"] == trial.user_attrs["cost"]
        assert card["identity"]["space_hash"] == load(searched.study.user_attrs["recipe"]["space"]).hash
        assert {"recipe", "versions", "transfer", "base", "note"} <= set(card)


def test_the_picture_needs_no_network(searched: Searched) -> None:
    text = (searched.folder / "pareto.html").read_text(encoding="utf-8")
    assert "Pareto front" in text
    assert '<script src="http' not in text
    assert "<script charset" not in text.split("plotly")[0] or 'src="http' not in text[:5000]


def test_the_written_recipe_is_complete_and_runs_again(searched: Searched, cli) -> None:
    written = yaml.safe_load((searched.folder / "recipe.yaml").read_text())
    asked = yaml.safe_load(searched.recipe.read_text())
    for key, value in asked.items():
        if key != "train":
            assert written[key] == value, key
    assert asked["train"].items() <= written["train"].items()
    again = cli("search", "--recipe", searched.folder / "recipe.yaml")
    assert again.code == 0, again.text
    assert len(searched.study.trials) == TRIALS


def test_what_it_says_names_the_front_and_the_next_steps(searched: Searched) -> None:
    said = searched.result.text
    assert searched.result.err == ""
    assert f"[{TRIALS}/{TRIALS}] trial 3" in said
    assert f"Pareto front of {TRIALS} placements" in said
    for command in ("dashboard", "export"):
        assert re.search(rf"python -m nas {command} \S+/first\b", said)
    assert "Traceback" not in said


@pytest.mark.parametrize("pick", ["knee", "best", "fastest", "0"])
def test_export_writes_the_point_that_was_picked(searched: Searched, cli, tmp_path: Path, pick: str) -> None:
    result = cli("export", "first", "--pick", pick, "--output", searched.output, "-o", tmp_path / "mine")
    assert result.code == 0, result.text
    (card,) = (tmp_path / "mine").glob("*.json")
    number = json.loads(card.read_text())["trial"]
    trials = searched.study.trials
    on_front = [t.number for t in export.front_trials(searched.study)]
    wanted = {
        "best": {max(on_front, key=lambda n: (trials[n].values[0], -trials[n].values[1]))},
        "fastest": {min(on_front, key=lambda n: trials[n].values[1])},
        "knee": set(on_front),
        "0": {0},
    }[pick]
    assert number in wanted
    assert f"trial {number}" in result.out
    DetectionModel(str(card.with_suffix(".yaml")), verbose=False)
    assert card.with_suffix(".pt").is_file() is (number in on_front)


def test_export_twice_into_one_folder(copied: Searched, cli) -> None:
    for _ in range(2):
        result = cli("export", "first", "--pick", "best", "--output", copied.output, "-o", copied.output / "mine")
        assert result.code == 0, result.text
    assert {p.suffix for p in (copied.output / "mine").iterdir()} == {".yaml", ".pt", ".json", ".md"}


def test_export_by_the_studys_folder(searched: Searched, cli, tmp_path: Path) -> None:
    assert cli("export", searched.folder, "-o", tmp_path / "mine").code == 0
    assert len(list((tmp_path / "mine").glob("*.yaml"))) == 1


def test_an_exported_yaml_trains_with_our_train_command(searched: Searched, cli, tmp_path: Path) -> None:
    file = next((searched.folder / "front").glob("*.yaml"))
    data = searched.study.user_attrs["recipe"]["data"]
    result = cli(
        "train", f"model={file}", f"data={data}", "epochs=1", "imgsz=64", "batch=4", "workers=0", "device=cpu",
        "plots=False", f"project={tmp_path / 'own'}", "name=x",
    )  # fmt: skip
    assert result.code == 0, result.text[-2000:]
    assert (tmp_path / "own" / "x" / "weights" / "last.pt").is_file()
