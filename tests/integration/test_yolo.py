"""Plain `yolo` on our YAML and weights, in an environment that the project is installed in, with nothing imported.

Each command is a process of its own, started as a shell does; each costs the seconds that importing Ultralytics takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from environment import Environment
from ultralytics.nn.tasks import yaml_model_load

from nas import graph
from search_spaces import Placement

SMALL = ("imgsz=64", "device=cpu", "workers=0", "batch=4", "plots=False")


@dataclass(frozen=True)
class Trained:
    """An environment, a YAML with our rows, and what `yolo detect train` made of it."""

    environment: Environment
    model: Path
    data: Path
    weights: Path

    @property
    def last(self) -> Path:
        """The final weights."""
        return self.weights / "last.pt"

    def yolo(self, *args: object, **kwargs: object) -> str:
        """Run the command in a folder of its own."""
        return self.environment.yolo(*args, **kwargs)


@pytest.fixture(scope="module")
def trained(
    installed: Environment, tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """`yolo detect train model=x.yaml`, two epochs, each kept as a training that was cut off leaves it."""
    folder = tmp_path_factory.mktemp("yolo")
    placement = Placement.of({"neck.p3": "eca", "backbone.p4": "simam"})
    model = folder / "mine.yaml"
    model.write_text(yaml.safe_dump(graph.insert(yaml_model_load(tiny_base), placement).yaml, sort_keys=False))
    said = installed.yolo(
        "detect", "train", f"model={model}", f"data={tiny_data}", "epochs=2", "save_period=1", "val=False",
        *SMALL, f"project={folder}", "name=first", cwd=folder,
    )  # fmt: skip
    assert said.count("modules.attend.Attend") == 2
    return Trained(installed, model, tiny_data, folder / "first" / "weights")


def rows(file: Path) -> list[str]:
    """Names of the layers in a checkpoint."""
    checkpoint = torch.load(file, map_location="cpu", weights_only=False)
    return [type(m).__name__ for m in (checkpoint["ema"] or checkpoint["model"]).model]


def test_train_from_a_yaml(trained: Trained) -> None:
    assert rows(trained.last).count("Attend") == 2


def test_train_from_weights(trained: Trained, tmp_path: Path) -> None:
    said = trained.yolo("detect", "train", f"model={trained.last}", f"data={trained.data}", "epochs=1", *SMALL,
                        f"project={tmp_path}", "name=again", cwd=tmp_path)  # fmt: skip
    total = len(torch.load(trained.last, weights_only=False)["model"].state_dict())
    assert f"Transferred {total}/{total} items" in said
    assert rows(tmp_path / "again" / "weights" / "last.pt").count("Attend") == 2


def test_resume(trained: Trained, tmp_path: Path) -> None:
    cut = trained.weights / "epoch0.pt"
    said = trained.yolo("detect", "train", f"model={cut}", "resume=True", cwd=tmp_path)
    assert "from epoch 2 to 2 total epochs" in said
    assert rows(trained.last).count("Attend") == 2


def test_val(trained: Trained, tmp_path: Path) -> None:
    said = trained.yolo("val", f"model={trained.last}", f"data={trained.data}", *SMALL, f"project={tmp_path}",
                        cwd=tmp_path)  # fmt: skip
    assert "mAP50-95" in said


def test_predict(trained: Trained, tmp_path: Path) -> None:
    images = trained.data.parent / "images" / "val"
    said = trained.yolo("predict", f"model={trained.last}", f"source={images}", "imgsz=64", f"project={tmp_path}",
                        "name=seen", cwd=tmp_path)  # fmt: skip
    assert "image 4/4" in said and len(list((tmp_path / "seen").iterdir())) == 4


def test_track(trained: Trained, tmp_path: Path) -> None:
    images = trained.data.parent / "images" / "val"
    said = trained.yolo("track", f"model={trained.last}", f"source={images}", "imgsz=64", "conf=0.001",
                        f"project={tmp_path}", "name=seen", cwd=tmp_path)  # fmt: skip
    assert "image 4/4" in said


def test_export(trained: Trained, tmp_path: Path) -> None:
    import onnx

    file = tmp_path / "mine.pt"
    file.write_bytes(trained.last.read_bytes())
    trained.yolo("export", f"model={file}", "format=onnx", "imgsz=64", "simplify=False", cwd=tmp_path)
    onnx.checker.check_model(onnx.load(tmp_path / "mine.onnx"))


@pytest.mark.parametrize("iterations", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_tune(trained: Trained, tmp_path: Path, iterations: int) -> None:
    """A method only: this Ultralytics has no `yolo tune`."""
    (tmp_path / "script.py").write_text(
        "import sys\n"
        "from ultralytics import YOLO\n"
        "model, data, folder, iterations = sys.argv[1:]\n"
        "YOLO(model).tune(data=data, epochs=1, iterations=int(iterations), imgsz=64, batch=4, workers=0,\n"
        "                 device='cpu', plots=False, project=folder, name='tuned')\n"
        "assert 'nas' not in sys.modules\n"
    )
    script = tmp_path / "script.py"
    trained.environment.run(script, trained.model, trained.data, tmp_path, iterations, cwd=tmp_path)
    found = yaml.safe_load((tmp_path / "tuned" / "best_hyperparameters.yaml").read_text())
    assert "lr0" in found


def test_a_script(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import sys\n"
        "from ultralytics import YOLO\n"
        "model = YOLO(sys.argv[1])\n"
        "assert [type(m).__name__ for m in model.model.model].count('Attend') == 2\n"
        "model.train(data=sys.argv[2], epochs=1, imgsz=64, batch=4, workers=0, device='cpu', plots=False,\n"
        "            project=sys.argv[3], name='script')\n"
        "assert 'nas' not in sys.modules\n"
    )
    trained.environment.run(tmp_path / "script.py", trained.model, trained.data, tmp_path, cwd=tmp_path)
    assert rows(tmp_path / "script" / "weights" / "last.pt").count("Attend") == 2


def test_turned_off_the_row_is_unknown_as_in_stock_ultralytics(trained: Trained, tmp_path: Path) -> None:
    said = trained.yolo("detect", "train", f"model={trained.model}", f"data={trained.data}", *SMALL, cwd=tmp_path,
                        code=1, YOLO_ATTENTION_NAS="0")  # fmt: skip
    assert "KeyError: 'Attend'" in said


@pytest.mark.slow
def test_the_same_in_an_editable_environment(trained: Trained, editable: Environment, tmp_path: Path) -> None:
    editable.yolo("detect", "train", f"model={trained.model}", f"data={trained.data}", "epochs=1", *SMALL,
                  f"project={tmp_path}", "name=first", cwd=tmp_path)  # fmt: skip
    assert rows(tmp_path / "first" / "weights" / "last.pt").count("Attend") == 2
