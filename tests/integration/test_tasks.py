"""Every task of Ultralytics is searched: its own figure, its own words, files that its own command takes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import call_cli, study_in, write_recipe
from task_data import HEADS, make_model
from ultralytics import YOLO

from nas import dashboard, export, task, weights

SPACE = "max_blocks: 1\nblocks: [eca, simam]\nsites: [{}]\n"
SITES = {"classify": "backbone.p3, backbone.p4"}
METRICS = {
    "detect": "mAP50-95",
    "segment": "mask mAP50-95",
    "pose": "pose mAP50-95",
    "obb": "OBB mAP50-95",
    "classify": "top-1 accuracy",
}


QUICK = ("segment", "pose", "obb", "classify", "detect26")  # the others by -m slow


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in HEADS])
def test_a_search_of_every_task(name: str, datasets: Callable[[str], Path], tmp_path: Path) -> None:
    word, _, two_heads = HEADS[name]
    space = tmp_path / "small.yaml"
    space.write_text(SPACE.format(SITES.get(word, "backbone.p4, neck.p3")))
    recipe = write_recipe(
        tmp_path / "recipe.yaml", data=datasets(word), base=make_model(tmp_path / f"{name}.yaml", name),
        space=space, trials=3, name=name, output=tmp_path / "runs", objectives=["map", "gflops"], sampler="ehvi",
        startup=None,
    )  # fmt: skip
    result = call_cli("search", "--recipe", recipe)
    assert result.code == 0 and "looked at" in result.text, result.text[-3000:]
    folder = tmp_path / "runs" / name
    study, metric = study_in(folder), METRICS[word]
    assert study.metric_names == [metric, "GFLOPs"]
    scores = [t.user_attrs["score"] for t in study.trials]
    assert [t.values[0] for t in study.trials] == [s["value"] for s in scores]
    assert {s["metric"] for s in scores} == {metric}
    assert {s["head"] for s in scores} == {"one2many" if two_heads else "single"}
    assert {s["nms_free"] is not None for s in scores} == {two_heads}
    assert len({s["batches_sha"] for s in scores}) == 1
    assert f"yolo {word} train model=" in result.text
    files_fit(folder, word, metric)
    if word == "classify":
        told = [result.text, *(f.read_text() for f in folder.rglob("*") if f.suffix in (".yaml", ".json", ".csv"))]
        told += [dashboard.study_note(study, export.front_trials(study)), study.trials[0].system_attrs.__str__()]
        assert not any("mAP" in text for text in told)


@pytest.mark.parametrize("name", ["segment", "classify"])
def test_a_search_in_rungs_of_other_tasks(name: str, datasets: Callable[[str], Path], tmp_path: Path) -> None:
    word = HEADS[name][0]
    space = tmp_path / "small.yaml"
    space.write_text(SPACE.format(SITES.get(word, "backbone.p4, neck.p3")))
    recipe = write_recipe(
        tmp_path / "recipe.yaml", data=datasets(word), base=make_model(tmp_path / f"{name}.yaml", name), space=space,
        trials=4, name=name, output=tmp_path / "runs", objectives=["map", "gflops"], epochs=3, rungs=2,
    )  # fmt: skip
    result = call_cli("search", "--recipe", recipe)
    assert result.code == 0, result.text[-3000:]
    top = export.finished(study_in(tmp_path / "runs" / name))
    assert len(top) == 2 and {len(t.user_attrs["score"]["curve"]) for t in top} == {2}
    assert len({t.user_attrs["score"]["batches_sha"] for t in top}) == 1, "a continued training sees the base's batches"


def files_fit(folder: Path, word: str, metric: str) -> None:
    """What the front holds is of the task and says so; tables name its figure."""
    columns = task.TASKS[word].columns
    frame = pd.read_csv(folder / "trials.csv")
    assert list(frame[columns[0]]) == pytest.approx([t.values[0] for t in study_in(folder).trials])
    assert f"{columns[0]}_over_base" in frame
    placed = export.write_point(study_in(folder), folder, study_in(folder).trials[1], folder / "other")
    built = YOLO(placed)
    assert built.task == word
    assert sum(type(m).__name__ == "Attend" for m in built.model.model) == 1
    assert (placed.with_suffix(".pt").is_file()) is (folder / "weights" / "1.pt").is_file()
    for file in (folder / "front").glob("*.yaml"):
        text = file.read_text()
        assert f"# {metric} 0." in text
        assert f"yolo {word} train model={file.stem}.pt" in text
        assert json.loads(file.with_suffix(".json").read_text())["task"] == word
        from_yaml, from_weights = YOLO(file), YOLO(file.with_suffix(".pt"))
        assert (from_yaml.task, from_weights.task) == (word, word)
        assert {k: v.shape for k, v in from_yaml.model.state_dict().items()} == {
            k: v.shape for k, v in from_weights.model.state_dict().items()
        }


@pytest.mark.parametrize("name", ["pose26", "classify", pytest.param("segment26", marks=pytest.mark.slow)])
def test_a_search_from_trained_weights_of_other_classes_and_keypoints(
    name: str, datasets: Callable[[str], Path], tmp_path: Path
) -> None:
    """As from yolo11n-pose.pt: a person's 17 keypoints there, and other things here."""
    word, file = HEADS[name][0], make_model(tmp_path / "base.yaml", name)
    trained = weights.build(str(file), {i: f"thing {i}" for i in range(5)}, seed=3)
    export.save(tmp_path / "base.pt", trained, {}, half=False)
    space = tmp_path / "small.yaml"
    space.write_text(SPACE.format(SITES.get(word, "backbone.p4, neck.p3")))
    recipe = write_recipe(
        tmp_path / "recipe.yaml", data=datasets(word), weights=tmp_path / "base.pt", space=space, trials=1,
        name="x", output=tmp_path / "runs", warm_epochs=1,
    )  # fmt: skip
    for cached in (False, True):
        result = call_cli("search", "--recipe", recipe)
        assert result.code == 0, result.text[-3000:]
        assert "class outputs: the base has 5, the model 2" in result.text
        assert ("keypoint outputs: the base has [17, 3], the model [4, 3]" in result.text) is (word == "pose")
        assert ("read from the cache" in result.text) is cached
        shutil.rmtree(tmp_path / "runs")


def test_our_train_command_checks_the_data_of_the_models_task(datasets: Callable[[str], Path], tmp_path: Path) -> None:
    model = make_model(tmp_path / "tiny-pose.yaml", "pose")
    result = call_cli("train", f"model={model}", f"data={datasets('obb')}", "epochs=1", "device=cpu")
    assert result.code == 2
    assert "a pose model needs kpt_shape" in result.text


@pytest.mark.parametrize(
    ("base", "labels", "told"),
    [
        ("pose", "detect", "a pose model needs kpt_shape"),
        ("segment", "detect", "the base is a model for segment; "),
        ("obb", "detect", "rows of 5 columns, expected a class and the four corners"),
        ("classify", "detect", "the base classifies whole images"),
        ("detect", "classify", "a model for detect expects the dataset's YAML file, got a folder"),
        ("segment", "pose", "rows of 5 columns, expected a class and at least three points"),
    ],
)
def test_a_dataset_of_another_task_is_refused_in_words(
    base: str, labels: str, told: str, datasets: Callable[[str], Path], tmp_path: Path
) -> None:
    recipe = write_recipe(
        tmp_path / "recipe.yaml", data=datasets(labels), base=make_model(tmp_path / "x.yaml", base),
        space="light", trials=3, name="x", output=tmp_path / "runs",
    )  # fmt: skip
    result = call_cli("search", "--recipe", recipe)
    assert result.code == 2
    assert told in result.text
    assert not (tmp_path / "runs").exists()


def test_a_head_of_another_number_of_keypoints_is_refused(datasets: Callable[[str], Path], tmp_path: Path) -> None:
    base = make_model(tmp_path / "x.yaml", "pose")
    base.write_text(base.read_text().replace("[nc, kpt_shape]", "[nc, [17, 3]]"))
    recipe = write_recipe(
        tmp_path / "recipe.yaml", data=datasets("pose"), base=base, space="light", trials=3, name="x",
        output=tmp_path / "runs",
    )  # fmt: skip
    result = call_cli("search", "--recipe", recipe)
    assert result.code == 2
    assert "its head is for (17, 3) keypoints and values, the dataset has (4, 3)" in result.text


def test_classify_has_its_own_image_size_and_no_cache_unless_asked(
    datasets: Callable[[str], Path], tmp_path: Path
) -> None:
    from nas import recipe, setting

    given = {
        "data": str(datasets("classify")), "base": str(make_model(tmp_path / "x.yaml", "classify")),
        "weights": "none", "space": "light", "latency_runs": 3, "train": {"device": "cpu"},
    }  # fmt: skip
    found = setting.prepare(recipe.read(None, given))
    assert (found.recipe.imgsz, found.recipe.train["cache"]) == (224, False)
    assert found.recipe.objectives == ("accuracy", "latency")
    assert found.recipe.name == "classify-light"
    with pytest.raises(recipe.RecipeError, match="nothing to classify"):
        setting.prepare(recipe.read(None, {**given, "train": {"device": "cpu", "single_cls": True}}))
    asked = recipe.read(None, {**given, "train": {"device": "cpu", "imgsz": 64, "cache": "ram"}})
    assert setting.prepare(asked).recipe.train.items() >= {"imgsz": 64, "cache": "ram"}.items()
