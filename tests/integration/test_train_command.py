"""`nas train` is Ultralytics' training: its words, its folders, its callbacks and loggers, and it resumes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPO, call_cli, write_recipe
from ultralytics import YOLO
from ultralytics.nn.tasks import yaml_model_load
from ultralytics.utils import callbacks

import nas  # noqa: F401  tells Ultralytics of our blocks
from nas import export, graph, weights
from search_spaces import Placement

QUICK = ["imgsz=64", "batch=4", "workers=0", "device=cpu", "plots=False"]
LOGGERS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")
RUN = """
import json, sys
from ultralytics import settings
from ultralytics.utils import callbacks
settings.update(json.loads(sys.argv[1]))
EVENTS = []
exec(sys.argv[2])
sys.argv = ["nas", *sys.argv[3:]]
from nas.cli import main
try:
    main()
finally:
    print("EVENTS", json.dumps(EVENTS))
"""
RECORD = """
for name, kept in callbacks.default_callbacks.items():
    kept.append(lambda instance, name=name: EVENTS.append(name))
"""
STOP = """
def stop(trainer):
    if trainer.epoch == 0:
        raise KeyboardInterrupt
callbacks.default_callbacks["on_model_save"].append(stop)
"""


def run(folder: Path, *words: Any, before: str = "", on: tuple[str, ...] = (), **env: str) -> tuple[int, str]:
    """A command in a process of its own that Ultralytics does not take for a test; its status and what it said."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"runs_dir": str(folder / "runs"), **{name: name in on for name in LOGGERS}}
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTEST_CURRENT_TEST", "GITHUB_ACTIONS")}
    clean |= {"PYTHONPATH": str(REPO), "YOLO_CONFIG_DIR": str(folder), **env}
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(settings), before, *map(str, words)],
        env=clean, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout


def rows(folder: Path) -> list[dict[str, str]]:
    """The lines of `results.csv`."""
    return list(csv.DictReader((folder / "results.csv").open()))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """YAML of the tiny detector with a block in it."""
    file = tmp_path_factory.mktemp("model") / "grafted.yaml"
    file.write_text(export.model_text(graph.insert(yaml_model_load(tiny_base), Placement.of({"neck.p3": "eca"}))))
    return file


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, model: Path, tiny_data: Path) -> tuple[Path, str]:
    """Folder and output of a training of two epochs, every event of Ultralytics' recorded."""
    home = tmp_path_factory.mktemp("trained")
    words = ["train", "detect", "train", f"model={model}", "data", "=", tiny_data, "epochs=2", *QUICK]
    code, said = run(home, *words, before=RECORD)
    assert code == 0, said[-3000:]
    return home / "runs" / "detect" / "train", said


def test_the_folder_is_the_one_that_users_know(trained: tuple[Path, str], tiny_data: Path) -> None:
    folder, _ = trained
    for name in ("args.yaml", "results.csv", "weights/best.pt", "weights/last.pt"):
        assert (folder / name).is_file(), name
    args = yaml.safe_load((folder / "args.yaml").read_text())
    assert (args["epochs"], args["imgsz"], args["task"], args["data"]) == (2, 64, "detect", str(tiny_data))
    assert [r["epoch"] for r in rows(folder)] == ["1", "2"]
    kinds = [type(m).__name__ for m in YOLO(folder / "weights" / "last.pt").model.model]
    assert kinds.count("Attend") == 1


def test_callbacks_see_the_events_of_a_training(trained: tuple[Path, str]) -> None:
    events = json.loads(trained[1].rsplit("EVENTS ", 1)[1])
    assert events[:3] == ["on_pretrain_routine_start", "on_pretrain_routine_end", "on_train_start"]
    assert events[-2:] == ["on_train_end", "teardown"]
    count = {name: events.count(name) for name in set(events)}
    assert count["on_train_epoch_start"] == count["on_train_epoch_end"] == count["on_model_save"] == 2
    assert count["on_train_batch_end"] == 4
    assert count["on_fit_epoch_end"] == 3  # one more for the best weights


def test_a_callback_given_to_yolo_in_python_is_called(tmp_path: Path, model: Path, tiny_data: Path) -> None:
    yolo, seen = YOLO(model), []
    yolo.add_callback("on_train_epoch_end", lambda trainer: seen.append(trainer.epoch))
    yolo.train(
        data=str(tiny_data), epochs=2, imgsz=64, batch=4, workers=0, device="cpu", plots=False, project=str(tmp_path)
    )
    assert seen == [0, 1]
    assert (tmp_path / "train" / "weights" / "last.pt").is_file()


def test_an_interrupted_training_resumes_without_its_data_named(tmp_path: Path, model: Path, tiny_data: Path) -> None:
    code, said = run(tmp_path, "train", f"model={model}", f"data={tiny_data}", "epochs=3", *QUICK, before=STOP)
    assert code == 130, said[-3000:]
    folder = tmp_path / "runs" / "detect" / "train"
    before = rows(folder)
    code, said = run(tmp_path, "train", f"model={folder / 'weights' / 'last.pt'}", "resume=True")
    assert code == 0, said[-3000:]
    assert [r["epoch"] for r in rows(folder)] == ["1", "2", "3"] and rows(folder)[0] == before[0]
    assert [p.name for p in folder.parent.iterdir()] == ["train"]


def test_a_checkpoint_brings_its_data(tmp_path: Path, trained: tuple[Path, str], tiny_data: Path) -> None:
    last = trained[0] / "weights" / "last.pt"
    result = call_cli("train", f"model={last}", "epochs=1", f"project={tmp_path}", *QUICK)
    assert result.code == 0 and f"data={tiny_data}, as in {last}" in result.out, result.text[-3000:]
    assert yaml.safe_load((tmp_path / "train" / "args.yaml").read_text())["data"] == str(tiny_data)


def test_a_checkpoint_whose_data_is_elsewhere_asks_for_data(tmp_path: Path, model: Path) -> None:
    file = tmp_path / "x.pt"
    export.save(file, weights.build(yaml_model_load(model), {0: "red", 1: "green"}), {"data": "elsewhere/coco.yaml"})
    result = call_cli("train", f"model={file}", "epochs=1")
    assert result.code == 2 and "train needs data=" in result.err
    assert "elsewhere/coco.yaml, is not on this machine" in result.err


@pytest.mark.parametrize("same", [True, False], ids=["the same rows", "other rows"])
def test_weights_that_would_land_in_other_rows_are_told(
    same: bool, tmp_path: Path, model: Path, tiny_base: Path, tiny_data: Path
) -> None:
    file = tmp_path / "x.pt"
    source = model if same else tiny_base
    export.save(file, weights.build(yaml_model_load(source), {0: "red", 1: "green"}), {})
    words = [f"model={model}", f"pretrained={file}", f"data={tiny_data}", "epochs=1", f"project={tmp_path}"]
    result = call_cli("train", *words, *QUICK)
    assert result.code == 0, result.text[-3000:]
    assert ("differ from row 13 on" in result.err) is not same


def test_a_finished_training_is_not_resumed(trained: tuple[Path, str]) -> None:
    result = call_cli("train", f"resume={trained[0] / 'weights' / 'last.pt'}")
    assert result.code == 2 and "no interrupted training" in result.err and "leave resume out" in result.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["val"], "use `yolo val model=...`"),
        (["segment"], "is for detect; leave the word out"),
        (["detct"], "did you mean 'detect'?"),
        (["--epochs=3"], "write epochs=3"),
        (["epochs"], "write epochs=..."),
        (["epochs=many"], "'epochs' must be an int"),
        (["epochs="], "missing 'epochs' value"),
        (["imgsz=[64,"], "unmatched '['"),
        (["cfg=nowhere.yaml"], "cfg=nowhere.yaml: no such file"),
        (["resume"], "no interrupted training"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_words_that_do_not_fit_are_told(words: list[str], expected: str, model: Path, tiny_data: Path) -> None:
    result = call_cli("train", f"model={model}", f"data={tiny_data}", *words)
    assert result.code == 2 and expected in result.err and "Traceback" not in result.text, result.text


def test_arguments_come_from_a_file_as_with_yolo(tmp_path: Path, trained: tuple[Path, str]) -> None:
    cfg = tmp_path / "mine.yaml"
    args = yaml.safe_load((trained[0] / "args.yaml").read_text())
    kept = {k: args[k] for k in ("task", "mode", "model", "data", "imgsz", "batch", "workers", "device", "plots")}
    cfg.write_text(yaml.safe_dump(kept | {"project": str(tmp_path)}))
    result = call_cli("train", f"cfg={cfg}", "epochs=1", "imgsz=32")
    assert result.code == 0, result.text[-3000:]
    found = yaml.safe_load((tmp_path / "train" / "args.yaml").read_text())
    assert (found["batch"], found["imgsz"], found["epochs"]) == (4, 32, 1)


def test_tensorboard_gets_the_curves(tmp_path: Path, model: Path, tiny_data: Path) -> None:
    pytest.importorskip("tensorboard")
    words = ["train", f"model={model}", f"data={tiny_data}", "epochs=1", *QUICK]
    code, said = run(tmp_path, *words, on=("tensorboard",))
    assert code == 0, said[-3000:]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "runs" / "detect" / "train"))
    events.Reload()
    assert {"train/box_loss", "metrics/mAP50-95(B)", "lr/pg0"} <= set(events.Tags()["scalars"])
    assert events.Tags()["graph"]


def test_mlflow_gets_arguments_curves_and_weights(tmp_path: Path, model: Path, tiny_data: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    words = ["train", f"model={model}", f"data={tiny_data}", "epochs=1", *QUICK]
    code, said = run(tmp_path, *words, on=("mlflow",), MLFLOW_TRACKING_URI=store)
    assert code == 0, said[-3000:]
    client = mlflow.MlflowClient(tracking_uri=store)
    (found,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert found.info.status == "FINISHED" and found.data.params["imgsz"] == "64"
    assert {"train/box_loss", "metrics/mAP50-95B"} <= set(found.data.metrics)
    assert {"weights", "results.csv", "args.yaml"} <= {a.path for a in client.list_artifacts(found.info.run_id)}


@pytest.mark.parametrize("logger", ["tensorboard", "mlflow"])
def test_a_search_does_not_log_its_short_trainings(
    logger: str, tmp_path: Path, tiny_base: Path, tiny_space: Path, tiny_data: Path
) -> None:
    pytest.importorskip(logger)
    recipe = write_recipe(
        tmp_path / "r.yaml", data=tiny_data, base=tiny_base, space=tiny_space, trials=1, name="quiet",
        output=tmp_path / "studies",
    )  # fmt: skip
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    code, said = run(tmp_path, "search", "--recipe", recipe, on=(logger,), MLFLOW_TRACKING_URI=store)
    assert code == 0, said[-3000:]
    assert not list(tmp_path.rglob("events.out.tfevents*")) and not (tmp_path / "mlflow.db").exists()


def test_callbacks_of_trainings_are_not_called_by_a_search(
    tmp_path: Path, tiny_base: Path, tiny_space: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    for name in ("on_pretrain_routine_start", "on_train_start", "on_train_epoch_end", "on_fit_epoch_end", "teardown"):
        monkeypatch.setitem(callbacks.default_callbacks, name, [lambda trainer, name=name: seen.append(name)])
    recipe = write_recipe(
        tmp_path / "r.yaml", data=tiny_data, base=tiny_base, space=tiny_space, trials=1, name="quiet",
        output=tmp_path / "studies",
    )  # fmt: skip
    result = call_cli("search", "--recipe", recipe)
    assert result.code == 0 and seen == [], result.text[-3000:]
