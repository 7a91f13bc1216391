"""What a checkpoint, a model's YAML, a label cache and a study's plug-in may do without `--trust`: nothing."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hostile
import numpy as np
import pytest
import torch
from conftest import run_python
from torch import nn
from ultralytics.nn.modules import Detect
from ultralytics.nn.tasks import yaml_model_load

import modules
from modules.attend import Attend
from nas import checkpoint, export, hidden, label_cache, plug_ins, trust, weights
from nas.dataset import DataError
from nas.demo import DEMO_BASE, cache_folder
from nas.errors import WeightError

FAMILIES = """
    yolov5n yolov8n yolov9t yolov10n yolo11n yolo12n yolo26n yolov8n-seg yolov9c-seg yolo11n-seg yolo26n-seg
    yolov8n-pose yolo26n-pose yolo11n-obb yolo26n-obb yolov8n-cls yolo11n-cls yolo26n-cls yolov8n-ghost yolov8n-p6
    """.split()  # noqa: SIM905
OWN_BLOCK = '''
from torch import nn
from modules import attention

@attention("{name}", paper="none", family="channel")
class {kind}(nn.Module):
    """A block of a test."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return self.body(x)
'''


@pytest.fixture(autouse=True)
def _nobody_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(trust.SWITCH, raising=False)


@pytest.fixture
def model(tiny_base: Path) -> Any:
    return weights.build(yaml_model_load(tiny_base), {0: "red", 1: "green"})


@pytest.fixture
def forget() -> Iterator[None]:
    """Blocks that a test registers are gone after it."""
    before, known = set(sys.modules), dict(modules.registry._SPECS)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("made_"):
            del sys.modules[name]
    modules.registry._SPECS.clear()
    modules.registry._SPECS.update(known)


def test_the_checkpoints_that_come_with_the_project_are_known(coco_weights: Path) -> None:
    checkpoint.check(DEMO_BASE)
    checkpoint.check(coco_weights)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_and_task_is_known(name: str, tmp_path: Path) -> None:
    made = weights.build(yaml_model_load(f"{name}.yaml"), {0: "a", 1: "b"})
    export.save(tmp_path / "m.pt", made, {"imgsz": 64})
    checkpoint.check(tmp_path / "m.pt")


def test_every_block_of_ours_is_known(tmp_path: Path) -> None:
    all_of_them = nn.ModuleList(Attend(32, name) for name in modules.names())
    torch.save(hostile.content(all_of_them), tmp_path / "m.pt")
    checkpoint.check(tmp_path / "m.pt")


def test_what_else_real_checkpoints_hold_is_known(model: Any, tmp_path: Path) -> None:
    from torchvision import transforms

    model.model[-1].detect = Detect.forward  # segmenting heads of 2023 and 2024; pickled as getattr(Detect, "forward")
    model.transforms = transforms.Compose(
        [transforms.Resize(64), transforms.ToTensor(), transforms.Normalize([0], [1])]
    )
    model.criterion = model.init_criterion() if hasattr(model, "args") else None
    more = {
        "train_args": {"data": Path("/x/data.yaml"), "project": None, "imgsz": 64},
        "train_metrics": {"fitness": np.float64(0.5), "n": np.int64(3), "curve": np.zeros(3)},
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    }
    torch.save(hostile.content(model, **more), tmp_path / "m.pt")
    checkpoint.check(tmp_path / "m.pt")


@pytest.mark.parametrize("name", [*hostile.HELD, *hostile.BY_HAND])
def test_a_checkpoint_that_is_more_than_weights_is_refused_and_nothing_ran(
    name: str, model: Any, tmp_path: Path
) -> None:
    file = hostile.write(tmp_path / "evil.pt", name, model, tmp_path / "mark")
    with pytest.raises(WeightError, match=r"evil\.pt") as told:
        weights.open_model(file)
    assert not (tmp_path / "mark").exists()
    assert "\n" not in str(told.value)
    assert "--trust" in str(told.value) or "not a readable" in str(told.value)


@pytest.mark.parametrize(
    "name", ["a call of os.system", "one in the training arguments", "a model class called with a hostile YAML"]
)
def test_with_trust_it_is_read_and_does_what_it_wants(
    name: str, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = hostile.write(tmp_path / "evil.pt", name, copy.deepcopy(model), tmp_path / "mark")
    trust.grant()
    assert type(weights.open_model(file)) is type(model)
    assert (tmp_path / "mark").exists()  # so the tests above can fail


def test_the_error_names_what_it_is(model: Any, tmp_path: Path) -> None:
    file = hostile.write(tmp_path / "evil.pt", "a call of os.system", model, tmp_path / "mark")
    with pytest.raises(WeightError, match=r"evil\.pt: more than weights: it names posix\.system"):
        checkpoint.check(file)


def test_a_list_that_somebody_else_has_made_does_not_count(model: Any, tmp_path: Path) -> None:
    import os

    file = hostile.write(tmp_path / "evil.pt", "a layer's class called", model, tmp_path / "mark")
    with torch.serialization.safe_globals([(type(model), "ultralytics.nn.tasks.DetectionModel"), os.system]):
        with pytest.raises(WeightError, match="it calls Conv"):
            checkpoint.check(file)
        assert os.system in torch.serialization.get_safe_globals()


def test_an_old_pickle_and_a_damaged_file_are_refused(model: Any, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    torch.save(
        hostile.content(model, more=hostile.touch(mark)), tmp_path / "old.pt", _use_new_zipfile_serialization=False
    )
    (tmp_path / "cut.pt").write_bytes(DEMO_BASE.read_bytes()[:5000])
    for name in ("old.pt", "cut.pt"):
        with pytest.raises(WeightError, match=name):
            weights.open_model(tmp_path / name)
    assert not mark.exists()


@pytest.mark.usefixtures("forget")
def test_a_plug_ins_block_is_known_once_the_file_was_named(tmp_path: Path) -> None:
    file = tmp_path / "made_known.py"
    file.write_text(OWN_BLOCK.format(name="made_known", kind="Known"))
    code = (
        "import sys, torch, modules; modules.load(sys.argv[1]); import made_known; "
        "torch.save({'model': made_known.Known(8)}, sys.argv[2])"
    )
    run_python(code, file, tmp_path / "m.pt")
    with pytest.raises(WeightError, match=r"names the module 'made_known', which is not here; .*--modules FILE"):
        checkpoint.check(tmp_path / "m.pt")
    modules.load(file)
    checkpoint.check(tmp_path / "m.pt")


@pytest.mark.parametrize("text", ["nn.SiLU()", "torch.nn.LeakyReLU(0.1)", " nn.ReLU(inplace=True)", "nn.Softplus(-1)"])
def test_an_activation_of_torch_is_taken(text: str) -> None:
    trust.refuse_code({"activation": text}, "x.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')", "nn.SiLU", "nn.modules.os()", "nn.SiLU(print())", "nn.SiLU(*[1])",
        "nn.SiLU(**{'a': 1})", "nn.init.os.system('x')", "nn.utils()", "nn.SiLU() or print()", b"nn.SiLU()", ["a"], "(",
    ],
)  # fmt: skip
def test_an_activation_that_is_anything_else_is_refused(text: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightError, match=r"x\.yaml: activation .* --trust"):
        trust.refuse_code({"activation": text}, "x.yaml")
    monkeypatch.setenv(trust.SWITCH, "1")
    trust.refuse_code({"activation": text}, "x.yaml")


@pytest.mark.parametrize("name", ["check_requirements", "torch_safe_load", "nn.modules", "torchvision.ops.nms", "YAML"])
def test_a_row_that_names_no_layer_is_refused(name: str) -> None:
    for row in ([-1, 1, name, ["x"]], (-1, 1, name, ["x"]), {-1: 0, 1: 0, name: 0, ("x",): 0}):
        with pytest.raises(WeightError, match=f"a row of its head names '{name}', which is no layer"):
            trust.refuse_code({"backbone": [[-1, 1, "Conv", [8]]], "head": [row]}, "x.yaml")


def test_whatever_is_built_is_looked_at(model: Any, tmp_path: Path) -> None:
    with pytest.raises(WeightError, match="activation"):
        weights.build(hostile.with_code(model, tmp_path / "mark"), {0: "a"})
    assert not (tmp_path / "mark").exists()
    with trust.granted(True):
        weights.build(hostile.with_code(model, tmp_path / "mark"), {0: "a"})
    assert (tmp_path / "mark").exists() and not trust.given()


@pytest.mark.parametrize("version", [1, 2, 3, None])
def test_a_label_cache_that_would_run_code_is_refused(version: int | None, own_data: Path, tmp_path: Path) -> None:
    text = "{'descr': '|O', 'fortran_order': False, 'shape': ()}".ljust(20_000) + "\n"  # longer than numpy takes
    size = len(text).to_bytes(2 if version == 1 else 4, "little")
    head = b"" if version is None else b"\x93NUMPY" + bytes([version, 0]) + size + text.encode()
    file = hostile.cache(own_data.parent / "labels" / "val.cache", tmp_path / "mark", head)
    with pytest.raises(DataError, match=r"val\.cache names posix\.system"):
        label_cache.check(own_data, "detect")
    assert not (tmp_path / "mark").exists()
    with trust.granted(True):
        label_cache.check(own_data, "detect")
    np.load(file, allow_pickle=True)
    assert (tmp_path / "mark").exists()  # so it would have run


def test_a_label_cache_of_ultralytics_is_taken_and_so_is_a_damaged_one(own_data: Path) -> None:
    from ultralytics.data import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    folder = own_data.parent
    YOLODataset(img_path=str(folder / "images" / "train"), data=check_det_dataset(str(own_data)), imgsz=64)
    made = folder / "labels" / "train.cache"
    assert label_cache.stranger(made) is None
    made.write_bytes(made.read_bytes()[:200])
    label_cache.check(own_data, "detect")


def study_with(file: Path, digest: str) -> Any:
    """What `plug_ins` reads of a study."""
    return SimpleNamespace(user_attrs={"recipe": {"modules": [str(file)]}, "identity": {"modules": [digest]}})


def test_a_plug_in_is_shown_with_path_and_hash_before_it_runs(tmp_path: Path) -> None:
    file, said = tmp_path / "mine.py", []
    file.write_text("import nowhere")
    plug_ins.announce([file, tmp_path / "gone.py"], said.append)
    assert said == [f"plug-in: {file}, sha256 {plug_ins._digest(file)[:12]}..."]


def test_a_studys_plug_in_runs_only_where_it_was_named_here_and_is_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "theirs.py"
    file.write_text(f"# {tmp_path}")
    study = study_with(file, plug_ins._digest(file)[:12])
    assert "nobody has named it on this machine" in plug_ins.faults_of(study)[0]
    with trust.granted(True):
        assert plug_ins.faults_of(study) == []
    plug_ins.announce([file], lambda text: None)
    assert plug_ins.faults_of(study) == []
    assert plug_ins._digest(file) in (cache_folder() / "plug-ins.txt").read_text()
    file.write_text("something else")
    plug_ins.announce([file], lambda text: None)
    with trust.granted(True):
        assert "is not the one that the study was made with" in plug_ins.faults_of(study)[0]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:hunter2@db/nas", "mysql://me:hunter2@db:3306/nas?x=1", "postgresql:///nas?user=me&password=hunter2",
        "postgresql+psycopg://me:hun:ter2/hunter2@db/nas", "postgresql://me:hunter2@@db",
    ],
)  # fmt: skip
def test_a_password_is_hidden_in_whatever_is_said_of_a_url(url: str) -> None:
    from nas.storage import hide_password, open_storage

    text = hidden.hide(f"error: storage {url}: no")
    assert "hunter2" not in text and "***" in text and hidden.hide(text) == text
    assert "hunter2" not in hide_password(f"storage {url}: no", url)
    with pytest.raises(ValueError, match="cannot be used") as told:
        open_storage("no" + url)
    assert "hunter2" not in str(told.value)


def test_text_without_a_password_stays() -> None:
    for text in ("http://127.0.0.1:8080/dashboard", "sqlite:////runs/x/study.db", "s3://bucket/a", "me@db.org"):
        assert hidden.hide(text) == text


def test_a_command_line_keeps_all_but_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql+psycopg://me:hunter2@db/nas"
    for line in (
        ["python", "-m", "nas", "status", "x", "--storage", url],
        ["nas", f"--storage={url}"],
        ["w", url, "x"],
    ):
        told, found = hidden.without_password(line)
        assert found == url and "hunter2" not in " ".join(told) and len(told) == len(line)
        monkeypatch.setenv(hidden.VARIABLE, found)
        assert hidden.full(hidden.hide(url)) == url
    assert hidden.without_password(["nas", "data=http://me:x@h/y"]) == (["nas", "data=http://me:x@h/y"], None)


def test_a_placements_id_in_a_database_is_no_path(tmp_path: Path) -> None:
    trial = SimpleNamespace(number=1, user_attrs={"placement_id": "../../x"})
    with pytest.raises(export.ExportError, match="no name for a file"):
        export.point_name(trial)  # type: ignore[arg-type]
    with pytest.raises(export.ExportError, match="no name for a file"):
        export.paused_state(tmp_path, "../../x", 1)
