"""`deploy`, and latencies of exported files in `search` and `cost`, as a user sees them."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from conftest import REPO, TINY, call_cli, study_in, write_recipe
from task_data import HEADS, KEYPOINTS, make_model
from ultralytics.nn.tasks import yaml_model_load

from nas import agreement, cost, deploy, export, weights
from nas.task import TASKS

sys.path.insert(0, str(REPO / "scripts"))
from table_bases import shaken

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the tiny detector, not trained."""
    file = tmp_path_factory.mktemp("mine") / "mine.pt"
    model = weights.build(yaml.safe_load(TINY), {0: "red", 1: "green"})
    export.save(file, model, {"imgsz": 64})
    return file


def test_deploy_shows_one_row_a_format_and_writes_it(mine: Path, tiny_data: Path, tmp_path: Path) -> None:
    result = call_cli(
        "deploy", mine, "--format", "onnx", "--format", "torchscript", "--format", "engine", "--data", tiny_data,
        "--imgsz", 64, "--base", mine, "--runs", 3, "--images", 2, "-o", tmp_path / "out",
    )  # fmt: skip
    assert result.code == 0, result.text
    assert max(map(len, result.out.split("Written:")[0].splitlines())) <= 80
    assert "engine: " in result.out
    card = json.loads((tmp_path / "out" / "mine-deploy.json").read_text())
    rows = {row["format"]: row for row in card["rows"]}
    assert list(rows) == ["torch", "onnx", "torchscript", "engine"]
    for name, backend in (("torch", "torch"), ("onnx", "onnxruntime"), ("torchscript", "torchscript")):
        row = rows[name]
        assert Path(row["file"]).is_file()
        assert row["latency"]["backend"] == backend
        assert row["ratio"] == row["latency"]["ratio"] > 0
        assert row["value"] == pytest.approx(rows["torch"]["value"], abs=1e-4)
        assert row["metric"] == "mAP50-95"
        assert row["megabytes"] > 0.1
    assert (tmp_path / "out" / "mine.onnx").is_file()
    assert rows["onnx"]["agreement"]["sizes"] == [64, 96]
    assert "TensorRT needs an NVIDIA GPU" in rows["engine"]["missing"] or "pip install" in rows["engine"]["missing"]
    assert card["versions"]["onnxruntime"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "onx"], "--format 'onx': expected torchscript, onnx, openvino, engine"),
        ([], "deploy needs --format"),
        (["--format", "engine"], "--format engine: "),
        (["--format", "torchscript", "--half"], "half precision on a GPU only"),
        (["--format", "onnx", "--imgsz", "100", "--runs", "1"], "multiple of 32 (for instance 96)"),
    ],
)
def test_deploy_tells_what_is_wrong_before_anything_is_spent(
    mine: Path, tiny_data: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    result = call_cli("deploy", mine, "--data", tiny_data, "-o", tmp_path, "--device", "cpu", *arguments)
    assert result.code == 2
    assert said in result.text
    assert not list(tmp_path.iterdir())


def test_deploy_refuses_data_of_other_classes(mine: Path, own_data: Path, tmp_path: Path) -> None:
    own_data.write_text(own_data.read_text() + "  2: blue\n")
    result = call_cli("deploy", mine, "--data", own_data, "--format", "torchscript", "--imgsz", 64, "-o", tmp_path)
    assert result.code == 2
    assert "it has 3 classes, mine.pt has 2" in result.text


def test_a_search_measures_latency_in_the_runtime_that_is_asked_for(
    tmp_path: Path, tiny_data: Path, tiny_base: Path, tiny_space: Path
) -> None:
    recipe = write_recipe(
        tmp_path / "r.yaml", data=tiny_data, base=tiny_base, space=tiny_space, trials=2, name="ort",
        output=tmp_path / "runs", latency_backend="onnxruntime",
    )  # fmt: skip
    result = call_cli("search", "--recipe", recipe)
    assert result.code == 0, result.text[-3000:]
    assert "on cpu (onnxruntime, float32," in result.text
    study = study_in(tmp_path / "runs" / "ort")
    assert study.metric_names == ["mAP50-95", "onnxruntime latency (x base)"]
    assert study.user_attrs["identity"]["latency_backend"] == "onnxruntime"
    assert study.user_attrs["identity"]["latency_runtime"].startswith("onnxruntime ")
    assert study.user_attrs["base"]["cost"]["latency"]["backend"] == "onnxruntime"
    for trial in study.trials:
        assert trial.user_attrs["cost"]["latency"]["backend"] == "onnxruntime"
    assert set(pd.read_csv(tmp_path / "runs" / "ort" / "trials.csv").latency_backend) == {"onnxruntime"}
    other = call_cli("search", "--recipe", recipe, "--latency-backend", "torch", "--trials", 3)
    assert other.code == 2
    assert "latency_backend: then 'onnxruntime', now None" in other.text


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="tensorrt is here")
def test_a_search_in_a_runtime_that_is_not_here_spends_nothing(
    tmp_path: Path, tiny_data: Path, tiny_base: Path, tiny_space: Path
) -> None:
    recipe = write_recipe(
        tmp_path / "r.yaml", data=tiny_data, base=tiny_base, space=tiny_space, output=tmp_path / "runs"
    )
    result = call_cli("search", "--recipe", recipe, "--latency-backend", "tensorrt")
    assert result.code == 2
    assert "error: --latency-backend tensorrt: tensorrt is not installed: pip install tensorrt" in result.text
    assert not (tmp_path / "runs").exists()


def test_cost_in_another_runtime(tiny_base: Path) -> None:
    result = call_cli(
        "cost", "neck.p3=eca", "--base", tiny_base, "--imgsz", 64, "--runs", 3, "--device", "cpu",
        "--latency-backend", "onnxruntime",
    )  # fmt: skip
    assert result.code == 0, result.text
    assert "onnxruntime, cpu, float32" in result.text
    wrong = call_cli("cost", "neck.p3=eca", "--base", tiny_base, "--latency-backend", "onnx")
    assert wrong.code == 2
    assert "expected torch, onnxruntime, openvino, tensorrt" in wrong.text


@pytest.mark.parametrize("name", ["segment", "pose26", "obb", "obb26", "classify"])
def test_deploy_knows_every_task(name: str, datasets: Callable[[str], Path], tmp_path: Path) -> None:
    of = HEADS[name][0]
    file = make_model(tmp_path / "tiny.yaml", name)
    file.write_text(file.read_text().replace("kpt_shape: [17, 3]", f"kpt_shape: {list(KEYPOINTS)}"))
    model = shaken(weights.build(yaml_model_load(file), {0: "red", 1: "green"}))
    with torch.no_grad():  # sure of something everywhere, so that there is something to compare
        for key, tensor in model.state_dict().items():
            if key in weights.class_outputs(model) and key.endswith("bias") and of != "classify":
                tensor += 8
    export.save(tmp_path / "mine.pt", model, {"imgsz": 64})
    result = call_cli(
        "deploy", tmp_path / "mine.pt", "--format", "onnx", "--format", "torchscript", "--data", datasets(of),
        "--imgsz", 64, "--runs", 3, "--images", 4, "-o", tmp_path / "out",
    )  # fmt: skip
    assert result.code == 0, result.text
    rows = json.loads((tmp_path / "out" / "mine-deploy.json").read_text())["rows"]
    for row in rows:
        assert row["metric"] == TASKS[of].metric
        assert row["value"] == pytest.approx(rows[0]["value"], abs=1e-3)
    image, cpu = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.device("cpu")
    reference = agreement.first(cost.torch_runner(weights.open_model(tmp_path / "mine.pt"), cpu), image)
    for row in rows[1:]:
        other = agreement.first(deploy.open_artifact(Path(row["file"]), row["format"], cpu), image)
        assert torch.allclose(other, reference, rtol=1e-4, atol=1e-4 * float(reference.abs().max()))
        near = row["agreement"]
        assert near["detections"] >= 4 and near["score"] < 1e-3
        assert near["unmatched"] <= 0.02 * near["detections"]  # boxes without an area have no partner
        if name.endswith("26"):  # NMS keeps one of many boxes that score the same here, and not always the same one
            assert near["box_px"] < 0.01
