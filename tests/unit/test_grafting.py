"""Blocks put into a trained model by hand: all tensors carried, the same predictions to the bit, a file that trains."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPO, make_dataset
from torch import nn
from ultralytics import YOLO
from ultralytics.nn.tasks import yaml_model_load

from nas import export, grafting, graph, weights
from nas.errors import InputError
from search_spaces import Block, Placement

sys.path.insert(0, str(REPO / "scripts"))
from table_bases import FAMILIES, row, shaken

BASES = [f"{stem}{scales[0]}{suffix}.yaml" for stem, scales, suffixes in FAMILIES.values() for suffix in suffixes]
SAMPLE = {"yolov8n.yaml", "yolov9t.yaml", "yolov10n.yaml", "yolo26n.yaml", "yolo11n-cls.yaml", "yolov8n-seg.yaml"}
SAMPLE |= {"yolo26n-seg.yaml", "yolo12n-obb.yaml", "yolo26n-pose.yaml"}


def tiny(base: Path, seed: int = 0) -> Any:
    """The tiny detector with weights that all differ."""
    return shaken(weights.build(yaml_model_load(base), {0: "red", 1: "green"}, seed=seed))


@pytest.fixture
def trained(tiny_base: Path, tmp_path: Path) -> Path:
    """A checkpoint of the tiny detector."""
    path = tmp_path / "base.pt"
    export.save(path, tiny(tiny_base), {"imgsz": 64})
    return path


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in SAMPLE else pytest.mark.slow, id=n) for n in BASES])
def test_every_family_and_task_keeps_its_tensors_and_its_output(name: str) -> None:
    assert row(name), f"a tensor was lost, or the output changed: {name}"


def test_the_comparison_of_outputs_sees_a_block_that_has_begun_to_work(tiny_base: Path) -> None:
    base = tiny(tiny_base)
    done = grafting.graft_model(base, Placement.of({"neck.p3": "eca"}))
    assert grafting.same_predictions(base, done.model)
    with torch.no_grad():
        done.model.model[done.graft.added["neck.p3"]].gamma.fill_(0.01)
    assert not grafting.same_predictions(base, done.model)


def test_a_file_comes_out_that_predicts_the_same_and_names_its_blocks(trained: Path, tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", 2, 2)
    placement = {"neck.p3": "eca", "backbone.p4": {"cbam": {"kernel_size": 5}}}
    mine = grafting.graft(trained, placement, tmp_path / "new" / "mine.pt")
    base = YOLO(trained)
    assert [m.name for m in mine.model.model if type(m).__name__ == "Attend"] == ["cbam", "eca"]
    assert mine.names == base.names
    image = str(data.parent / "images" / "val" / "0.png")
    ours, theirs = (m.predict(image, imgsz=64, conf=0.0001, verbose=False)[0].boxes.data for m in (mine, base))
    assert len(theirs)
    assert torch.equal(ours, theirs)
    old, new = base.model.state_dict(), mine.model.state_dict()
    moved = grafting.graft_model(weights.open_model(trained), grafting.read(placement)).graft.moved
    assert all(torch.equal(tensor, new[weights.rename(name, moved)]) for name, tensor in old.items())


def test_ultralytics_goes_on_training_from_the_file(trained: Path, tmp_path: Path) -> None:
    mine = grafting.graft(trained, {"neck.p3": "simam", "neck.p4": "eca"}, tmp_path / "mine.pt")
    data = make_dataset(tmp_path / "data", 4, 2)
    arguments = {"imgsz": 64, "batch": 4, "epochs": 1, "workers": 0, "plots": False, "project": str(tmp_path / "runs")}
    mine.train(data=str(data), **arguments)
    after = YOLO(mine.trainer.best)
    blocks = [m for m in after.model.modules() if type(m).__name__ == "Attend"]
    assert [m.name for m in blocks] == ["eca", "simam"] or [m.name for m in blocks] == ["simam", "eca"]
    assert all(m.gamma.abs().sum() > 0 for m in blocks), "the blocks did not learn"


def test_full_precision_is_kept_where_half_would_lose_something(tiny_base: Path, tmp_path: Path) -> None:
    for half in (True, False):
        path = tmp_path / f"{half}.pt"
        export.save(path, tiny(tiny_base), {}, half=half)
        grafting.graft(path, {"neck.p3": "eca"}, tmp_path / f"out{half}.pt")
        stored = torch.load(tmp_path / f"out{half}.pt", weights_only=False)["model"]
        assert next(stored.parameters()).dtype == (torch.float16 if half else torch.float32)
        assert grafting.same_predictions(weights.open_model(path), weights.open_model(tmp_path / f"out{half}.pt"))


def test_what_a_checkpoint_carries_beside_its_weights_is_kept(tiny_base: Path) -> None:
    base = tiny(tiny_base)
    base.transforms, base.kpt_names = nn.Identity(), {0: ["nose"]}
    model = grafting.graft_model(base, Placement.of({"neck.p3": "eca"})).model
    assert model.kpt_names == {0: ["nose"]}
    assert model.names == {0: "red", 1: "green"}


def test_a_base_that_is_more_than_its_yaml_is_refused(tiny_base: Path) -> None:
    base = tiny(tiny_base)
    base.model[3].cv1.act = nn.ReLU()
    with pytest.raises(grafting.GraftError, match="more than its YAML"):
        grafting.graft_model(base, Placement.of({"neck.p3": "eca"}))


def test_plain_wire_is_the_bare_block(tiny_base: Path) -> None:
    base = tiny(tiny_base)
    done = grafting.graft_model(base, Placement.of({"neck.p3": "eca"}), "plain")
    assert done.transfer.loaded == done.transfer.total
    assert not grafting.same_predictions(base, done.model)


def test_fused_weights_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    export.save(tmp_path / "fused.pt", tiny(tiny_base).fuse(verbose=False), {})
    with pytest.raises(weights.WeightError, match="fused for inference"):
        grafting.graft(tmp_path / "fused.pt", {"neck.p3": "eca"}, tmp_path / "mine.pt")


def test_all_faults_of_a_placement_are_told_at_once(tiny_base: Path) -> None:
    blocks = {
        "neck.p33": "eca",
        "neck.p3": "cbm",
        "neck.p4": {"eca": {"kernel_size": 4}},
        "backbone.p2": "sge(groups=3)",
    }
    with pytest.raises(grafting.GraftError) as e:
        grafting.check(Placement.of(blocks), yaml_model_load(tiny_base))
    lines = str(e.value).splitlines()
    assert len(lines) == 4
    for part in ("did you mean 'neck.p3'", "did you mean 'cbam'", "kernel_size", "unknown block 'sge(groups=3)'"):
        assert any(part in line for line in lines), (part, lines)


@pytest.mark.parametrize(
    ("output", "says"),
    [("base.pt", "is the base itself"), ("there.pt", "is there already"), ("mine.onnx", r"ends in \.pt.*mine\.pt")],
)
def test_an_output_that_cannot_be_is_refused_before_anything(trained: Path, output: str, says: str) -> None:
    (trained.parent / "there.pt").write_text("mine")
    before = trained.read_bytes()
    with pytest.raises(InputError, match=says):
        grafting.graft(trained, {"neck.p3": "eca"}, trained.parent / output)
    assert trained.read_bytes() == before
    assert (trained.parent / "there.pt").read_text() == "mine"


def test_a_placement_as_words() -> None:
    placement = grafting.parse(["neck.p3=eca", "backbone.p4=cot(kernel_size=5, factor=2)"])
    assert placement == Placement.of(
        {"neck.p3": "eca", "backbone.p4": Block("cot", (("factor", 2), ("kernel_size", 5)))}
    )


@pytest.mark.parametrize(
    "items", [["neck.p3"], ["neck.p3=eca(3)"], ["neck.p3=eca", "neck.p3=sk"], ["neck.p3=eca(k=[)"]]
)
def test_words_that_are_no_placement(items: list[str]) -> None:
    with pytest.raises(grafting.GraftError, match=r"neck\.p3"):
        grafting.parse(items)


def test_the_command(trained: Path, cli: Any) -> None:
    out = trained.parent / "mine.pt"
    result = cli("graft", trained, "neck.p3=eca", "backbone.p4=simam", "-o", out)
    assert result.code == 0, result.text
    total = len(weights.open_model(trained).state_dict())
    assert f"{total}/{total} tensors of the base carried over" in result.text
    assert "to the bit" in result.text
    assert f"yolo detect train model={out}" in result.text
    assert set(graph.sites(weights.open_model(out).yaml))
    again = cli("graft", trained, "neck.p3=eca", "-o", out)
    assert again.code == 2
    assert "--force" in again.err
    assert cli("graft", trained, "neck.p3=eca", "-o", out, "--force").code == 0
    assert cli("graft", trained, "-o", out, "--force").code == 2


def test_a_yaml_has_no_weights_and_its_references_are_raised(tiny_base: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    model = grafting.graft(tiny_base, "backbone.p3=eca neck.p4=cot(kernel_size=5)", out).model
    assert [m.options for m in model.model if type(m).__name__ == "Attend"] == [{}, {"kernel_size": 5}]
    assert len(model.model) == len(graph.rows(yaml_model_load(tiny_base))) + 2
    with pytest.raises(grafting.GraftError, match=r"no weights to carry.*-o .*mine\.yaml"):
        grafting.graft(tiny_base, "neck.p4=eca", tmp_path / "mine.pt")


def test_options_in_parentheses_are_read_in_python_too() -> None:
    wanted = Placement.of({"neck.p3": {"eca": {"kernel_size": 5}}, "neck.p4": "sk"})
    assert grafting.read({"neck.p3": "eca(kernel_size=5)", "neck.p4": "sk"}) == wanted
    assert grafting.read("neck.p3=eca(kernel_size=5) neck.p4=sk") == wanted
    assert grafting.read(wanted.label) == wanted


def test_a_second_block_and_a_dear_one_are_doubted() -> None:
    base = yaml_model_load("yolov10n.yaml")
    mhsa = Placement.of({"neck.p3": "mhsa"})
    assert grafting.doubts(Placement.of({"neck.p3": "eca"}), base, 640) == []
    (dear,) = grafting.doubts(mhsa, base, 640)
    assert "6,400" in dear
    assert grafting.doubts(mhsa, base, 320) == []
    (second,) = grafting.doubts(mhsa, graph.insert(base, Placement.of({"neck.p3": "eca"})).yaml, 320)
    assert "has a block already, eca" in second


def test_the_command_says_how_to_train_a_block_of_ones_own(trained: Path, cli: Any) -> None:
    file = trained.parent / "hub.py"
    file.write_text(
        "from modules import attention\nfrom modules.forms import Gate\n\n\n"
        '@attention("hub_gate", paper="none", family="channel", cost="linear")\n'
        'class Hub(Gate):\n    """Halves."""\n\n'
        "    def __init__(self, channels: int) -> None:\n        super().__init__()\n\n"
        "    def gate(self, x):\n        return x.new_full((1, 1, 1, 1), 0.5)\n"
    )
    result = cli("graft", trained, "neck.p3=hub_gate", "--modules", file, "-o", trained.parent / "mine.pt")
    assert result.code == 0, result.text
    assert f"python -m nas train --modules {file} model=" in result.text
    assert cli("graft", trained, "neck.p3=eca", "--imgsz", 100, "-o", trained.parent / "i.pt").code == 2
    assert not (trained.parent / "i.pt").exists()
