"""Exported files: the same detections as torch, the same threads, told before anything is spent what is missing."""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import SHARED, TINY, run_python
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel, yaml_model_load
from ultralytics.utils import ASSETS

from modules.attend import Attend
from modules.tooling import settled
from nas import agreement, cost, deploy, graph, recipe, report, weights
from search_spaces import Placement

CPU = torch.device("cpu")
SAMPLED = [  # of every family, the ones whose sizes or shapes a tracer could freeze
    {"neck.p3": "eca", "backbone.p4": "gct"},
    {"neck.p4": "cbam", "neck.p3": "coord", "backbone.p5": "triplet"},
    {"neck.p5": "sk", "backbone.p3": "lska", "neck.p4_td": "cot"},
    {"neck.p4": "efficient", "backbone.p5": "agent", "neck.p3": "external"},
    {"neck.p5": "swin", "backbone.p5": "area", "backbone.p4": "mobilevit"},
    {"backbone.psa": "mhsa", "neck.p5": "emsa"},
]
FORMATS = [
    "onnx",
    "torchscript",
    pytest.param(
        "openvino",
        marks=pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed"),
    ),
]


@cache
def base() -> DetectionModel:
    """The trained YOLOv10n where it is at hand, else random weights in its graph."""
    file = SHARED / "weights" / "yolov10n_coco_rebuilt.pt"
    if file.is_file():
        return weights.open_model(file)
    return weights.build(yaml_model_load("yolov10n.yaml"), {i: str(i) for i in range(80)})


def tiny() -> DetectionModel:
    import yaml

    return weights.build(yaml.safe_load(TINY), {0: "red", 1: "green"})


@torch.no_grad()
def with_blocks(net: DetectionModel, blocks: dict[str, str], gamma: float = 0.5) -> DetectionModel:
    """The net with blocks that do something: gamma about ``gamma``, running statistics off their start."""
    graft = graph.insert(net.yaml, Placement.of(blocks))
    model = weights.build(graft.yaml, net.names)
    weights.transfer(net, model, graft.moved)
    attends = [m for m in model.modules() if isinstance(m, Attend)]
    assert len(attends) == len(blocks)
    for i, attend in enumerate(attends):
        attend.gamma.copy_(
            gamma * (1 + 0.2 * torch.randn(attend.gamma.shape, generator=torch.Generator().manual_seed(i)))
        )
        settled(attend.block)
    return model.eval()


def one2many(model: DetectionModel) -> DetectionModel:
    """Without its NMS-free head, whose top 300 change places where scores are nearly the same."""
    plain = copy.deepcopy(model)
    for name in ("one2one_cv2", "one2one_cv3"):
        setattr(plain.model[-1], name, None)
    return plain


def first(y: object) -> Tensor:
    return torch.as_tensor(y[0] if isinstance(y, list | tuple) else y).float()


def photographs() -> list[np.ndarray]:
    return agreement.read([ASSETS / "bus.jpg", ASSETS / "zidane.jpg"])


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("blocks", SAMPLED, ids=lambda b: "+".join(b.values()))
def test_an_exported_detector_gives_torchs_boxes_and_scores_at_two_sizes(
    blocks: dict[str, str], fmt: str, tmp_path: Path
) -> None:
    model = one2many(with_blocks(base(), blocks))
    torch_ = cost.torch_runner(model, CPU)
    file = deploy.export(model, fmt, tmp_path / "mine", 160, CPU, dynamic=True)
    runner = deploy.open_artifact(file, fmt, CPU, exact=True)
    assert runner.head == "single"
    plain = first(cost.torch_runner(one2many(base()), CPU)(agreement.as_input(photographs()[0], 160)))
    for size in (160, 224):
        for picture in photographs():
            image = agreement.as_input(picture, size)
            with torch.inference_mode():
                expected, got = first(torch_(image)), first(runner(image))
            if size == 160 and picture is photographs()[0]:
                assert not torch.allclose(expected, plain, atol=1e-3), "the blocks do nothing"
            assert got.shape == expected.shape
            assert (got[:, :4] - expected[:, :4]).abs().max() < 2e-4 * size, "boxes in pixels"
            assert (got[:, 4:] - expected[:, 4:]).abs().max() < 2e-4, "scores"


@pytest.mark.parametrize("fmt", FORMATS)
def test_an_exported_file_has_the_head_without_nms_and_agrees_with_torch(
    fmt: str, tmp_path: Path, coco_weights: Path
) -> None:
    model = with_blocks(base(), {"neck.p3": "eca", "neck.p5": "mhsa"}, gamma=0.02)
    before, path = {k: v.clone() for k, v in model.state_dict().items()}, getattr(model, "pt_path", None)
    reference = cost.torch_runner(model, CPU)
    pairs = []
    for size in (256, 320):  # one file a size
        file = deploy.export(model, fmt, tmp_path / f"at{size}", size, CPU)
        pairs.append((size, reference, deploy.open_artifact(file, fmt, CPU, exact=True)))
    assert {runner.head for _, *both in pairs for runner in both} == {"one2one"}
    found = agreement.compare(pairs, photographs())
    assert (found.images, found.sizes, found.unmatched) == (2, (256, 320), 0)
    assert found.detections >= 8
    assert found.box_px < 0.05
    assert found.score < 1e-3
    after = model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items()), "exporting changed the model"
    assert getattr(model, "pt_path", None) == path
    assert not model.is_fused()


def test_onnx_has_half_precision_on_a_cpu_and_torchscript_has_not(tmp_path: Path) -> None:
    whole = deploy.export(base(), "onnx", tmp_path / "whole", 64, CPU)
    half = deploy.export(base(), "onnx", tmp_path / "half", 64, CPU, half=True)
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    assert deploy.open_artifact(half, "onnx", CPU, half=True).dtype == "float16"
    with pytest.raises(deploy.DeployError, match="torchscript: TorchScript has half precision on a GPU only"):
        deploy.export(base(), "torchscript", tmp_path / "half", 64, CPU, half=True)


def test_openvino_reports_nothing_to_its_maker(tmp_path: Path) -> None:
    """Its converter would fork this process, and a latency is timed right after it."""
    pytest.importorskip("openvino")
    run_python(
        "import sys, torch, nas\n"
        "from pathlib import Path\n"
        "from nas import deploy, weights\n"
        "model = weights.build('yolov10n.yaml', {0: 'a'})\n"
        "deploy.export(model, 'openvino', Path(sys.argv[1]), 64, torch.device('cpu'))\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "assert 'stub' in telemetry_utils.tm.__name__, telemetry_utils.tm\n",
        tmp_path / "mine",
    )


def test_openvino_says_what_it_computes_in(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    file = deploy.export(base(), "openvino", tmp_path / "mine", 64, CPU, half=True)
    assert deploy.open_artifact(file, "openvino", CPU, exact=True).dtype == "float32"
    assert deploy.open_artifact(file, "openvino", CPU).dtype in ("float32", "bfloat16", "float16")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_latency_of_an_exported_file_is_measured_beside_the_base(backend: str, tmp_path: Path) -> None:
    pytest.importorskip(backend)
    net = base()
    ours, theirs = (deploy.runner(m, backend, 64, CPU) for m in (with_blocks(net, {"neck.p3": "eca"}), net))
    found = cost.latency(ours, theirs, 64, runs=5)
    assert (found.backend, found.device, found.head) == (backend, "cpu", "one2one")
    assert found.threads == torch.get_num_threads()
    assert found.ms > 0
    assert found.ratio > 0
    assert json.loads(json.dumps(cost.Cost(1, 1.0, found).to_json()))["latency"]["backend"] == backend


@pytest.fixture
def three_threads() -> Iterator[None]:
    """Neither one nor one less than the cores of a usual machine."""
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(1)


def test_onnxruntime_takes_as_many_threads_as_torch_which_keeps_them(three_threads: None) -> None:
    runner = deploy.runner(base(), "onnxruntime", 64, CPU)
    assert torch.get_num_threads() == 3
    options = runner.forward.__self__.session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert cost.latency(runner, runner, 64, runs=3).threads == 3


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in packages else found(name, *a))


def test_what_is_missing_says_how_to_get_it(monkeypatch) -> None:
    without(monkeypatch, "openvino", "tensorrt", "onnx", "onnxruntime")
    assert deploy.fault("openvino", CPU) == "openvino is not installed: pip install openvino"
    assert deploy.fault("onnx", CPU) == "onnx and onnxruntime are not installed: pip install onnx onnxruntime"
    assert deploy.fault("torchscript", CPU) is None
    with pytest.raises(deploy.DeployError, match=r"--latency-backend tensorrt: .*pip install onnx tensorrt"):
        deploy.check_backend("tensorrt", CPU)
    with pytest.raises(deploy.DeployError, match="expected torch, onnxruntime, openvino, tensorrt"):
        deploy.check_backend("onnx", CPU)
    deploy.check_backend("torch", CPU)


def test_a_gpu_needs_the_runtimes_that_use_it(monkeypatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "pip install onnxruntime-gpu" in deploy.fault("onnx", torch.device("cuda:0"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: object())
    assert deploy.fault("engine", CPU) == "TensorRT needs an NVIDIA GPU (device=0), got cpu"


def test_a_failing_exporter_is_told_in_one_line(tmp_path: Path) -> None:
    broken = copy.deepcopy(tiny())
    broken.model[3].cv1.conv = torch.nn.Conv2d(7, 7, 1)
    with pytest.raises(deploy.DeployError, match=r"^onnx: Ultralytics' export failed: ") as e:
        deploy.export(broken, "onnx", tmp_path / "x", 64, CPU)
    assert "\n" not in str(e.value)


def test_the_runtime_stands_in_the_name_and_the_identity_but_torch_leaves_both_as_they_were() -> None:
    plain, other = (recipe.read(None, {"latency_backend": b}) for b in ("torch", "onnxruntime"))
    assert plain.metrics() == [("mAP50-95", "maximize"), ("latency (x base)", "minimize")]
    assert other.metrics() == [("mAP50-95", "maximize"), ("onnxruntime latency (x base)", "minimize")]
    assert "latency_backend" not in plain.identity()
    assert other.identity()["latency_backend"] == "onnxruntime"
    assert (
        recipe.read(None, {"latency_backend": "openvino", "objectives": ("map", "gflops")}).metrics()[1][0] == "GFLOPs"
    )
    with pytest.raises(recipe.RecipeError, match=r"latency_backend: got 'onnx', allowed: 'torch', 'onnxruntime'"):
        recipe.read(None, {"latency_backend": "onnx"})


def test_a_study_from_before_the_runtime_was_recorded_can_be_read() -> None:
    found = cost.latency(*[cost.torch_runner(tiny(), CPU)] * 2, imgsz=64, runs=3)
    stored = cost.Cost(1, 1.0, found).to_json()
    assert report.where(stored["latency"]) == "torch, cpu"
    del stored["latency"]["backend"]
    assert report.where(stored["latency"]) == "torch, cpu"
    assert report.where(stored["latency"] | {"backend": "openvino"}) == "openvino, cpu"


def rows(*found: list[float]) -> Tensor:
    return torch.tensor(found).reshape(-1, 6)


def test_agreement_counts_what_has_no_partner() -> None:
    sure, unsure = [10.0, 10.0, 50.0, 50.0, 0.9, 1.0], [200.0, 200.0, 240.0, 240.0, 0.2, 1.0]
    near = [10.0, 10.5, 50.0, 50.0, 0.8, 1.0]
    assert agreement.match(rows(sure, unsure), rows(near)) == ([0.5], [pytest.approx(0.1)], 0)
    assert agreement.match(rows(sure), rows())[2] == 1
    assert agreement.match(rows(), rows(sure, unsure))[2] == 1
    other_class = [*sure[:5], 2.0]
    assert agreement.match(rows(sure), rows(other_class)) == ([], [], 2)
    twice = [*sure[:4], 0.15, 1.0]  # the same object again, less sure: no partner of the first
    assert agreement.match(rows(sure), rows(twice, near)) == ([0.5], [pytest.approx(0.1)], 0)
    again = [*sure[:4], 0.3, 1.0]
    assert agreement.match(rows(sure, again), rows(sure)) == ([0.0], [0.0], 1), "one partner is not shared by two"


def test_detections_of_a_wrong_file_do_not_agree(coco_weights: Path) -> None:
    right = cost.torch_runner(base(), CPU)
    wrong = replace(right, forward=lambda image: right.forward(image.flip(3)))
    found = agreement.compare([(256, right, wrong)], photographs())
    assert found.unmatched > 0 or found.box_px > 10


def test_a_picture_is_shown_as_ultralytics_shows_it(coco_weights: Path) -> None:
    from ultralytics import YOLO

    picture = cv2.resize(photographs()[0], (100, 200))
    yolo = YOLO(coco_weights)
    yolo.predict(picture, imgsz=128, rect=False, verbose=False, device="cpu")
    assert torch.equal(yolo.predictor.preprocess([picture]), agreement.as_input(picture, 128))
