"""Ultralytics knows the row `Attend`: in whatever order things are imported, at every scale, and from a `.pt` alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import run_python
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from nas import export, graph, weights
from search_spaces import Placement

BUILD = """
import sys
from ultralytics.nn.tasks import DetectionModel
text = {"nc": 2, "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Attend", ["c2", "eca"]]],
        "head": [[-1, 1, "Conv", [16, 3, 2]], [[0, 2], 1, "Detect", ["nc"]]]}
model = DetectionModel(text, verbose=False)
assert type(model.model[1]).__name__ == "Attend" and model.model[1].channels == 16
assert not [f for f in sys.meta_path if type(f).__module__.startswith("nas")]
"""


@pytest.mark.parametrize(
    "first",
    [
        "import nas, ultralytics",
        "import ultralytics, nas",
        "import ultralytics.nn.tasks, nas",
        "import nas, nas.plugin",
    ],
)
def test_in_whatever_order_they_are_imported(first: str) -> None:
    run_python(f"{first}\n{BUILD}")


def test_registering_again_changes_nothing() -> None:
    run_python(
        "import nas, sys\nbefore = list(sys.meta_path)\nnas.register()\nassert sys.meta_path == before\n" + BUILD
    )


@pytest.mark.parametrize(("scale", "wide"), [("n", (32, 64, 64)), ("s", (64, 128, 128))])
def test_the_parser_turns_c2_into_the_channels_of_the_row_before(scale: str, wide: tuple[int, ...]) -> None:
    """A habit of Ultralytics' parser that one YAML for all scales stands on."""
    text = graph.insert(
        yaml_model_load("yolov10n.yaml"),
        Placement.of({"backbone.p2": "eca", "backbone.p3": "sk", "neck.p3": "cot"}),
    ).yaml
    text |= {"scales": {"n": [0.33, 0.25, 1024], "s": [0.33, 0.5, 1024]}, "scale": scale}
    model = DetectionModel(text, verbose=False)
    found = [m for m in model.model if type(m).__name__ == "Attend"]
    assert tuple(m.channels for m in found) == wide


def test_a_saved_checkpoint_trains_where_only_ultralytics_is_imported(
    tmp_path: Path, tiny_base: Path, tiny_data: Path
) -> None:
    graft = graph.insert(yaml_model_load(tiny_base), Placement.of({"neck.p3": "eca", "backbone.p4": "simam"}))
    model = weights.build(graft.yaml, {0: "red", 1: "green"})
    file = tmp_path / "point.pt"
    export.save(file, model, {"data": str(tiny_data), "imgsz": 64})
    run_python(
        "import sys, torch\n"
        "from ultralytics import YOLO\n"
        "file, data, out = sys.argv[1:]\n"
        "assert 'nas' not in sys.modules\n"
        "model = YOLO(file)\n"
        "kinds = [type(m).__name__ for m in model.model.model]\n"
        "assert kinds.count('Attend') == 2 and model.names == {0: 'red', 1: 'green'}\n"
        "model.predict(torch.zeros(1, 3, 64, 64), verbose=False)\n"
        "model.train(data=data, epochs=1, imgsz=64, batch=4, workers=0, device='cpu', plots=False, project=out)\n"
        "kinds = [type(m).__name__ for m in YOLO(model.trainer.last).model.model]\n"
        "assert kinds.count('Attend') == 2\n",
        file,
        tiny_data,
        tmp_path / "out",
    )
