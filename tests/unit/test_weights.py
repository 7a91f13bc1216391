"""The weights' way through a graph edit: every tensor arrives, and the output does not change by a bit."""

from __future__ import annotations

import copy
import random
import re
from functools import cache
from typing import Any

import pytest
import torch
from conftest import BLOCKS
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from nas import export, graph, weights
from search_spaces import Placement

COCO = {i: f"class{i}" for i in range(80)}
THREE = {0: "RBC", 1: "WBC", 2: "Platelets"}
SITES = {s.name: s for s in graph.sites(yaml_model_load("yolov10n.yaml"))}
CLASS_OUTPUT = re.compile(r"^model\.23\.(one2one_)?cv3\.\d+\.2\.(weight|bias)$")


def shaken(name: str = "yolov10n.yaml", seed: int = 0) -> DetectionModel:
    """A model whose every tensor is its own, BN statistics included."""
    model = weights.build(name, COCO, seed=seed)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            noise = torch.rand(tensor.shape, generator=draw)
            if key.endswith("num_batches_tracked"):
                tensor.fill_(1 + int(1000 * noise))
            elif key.endswith("running_var"):
                tensor.copy_(0.5 + noise)
            elif "dfl" not in key:
                tensor.add_(0.05 * (noise - 0.5))
    return model


@cache
def base() -> DetectionModel:
    """The base of all tests here; never trained, never changed."""
    return shaken()


@cache
def edited(placement: Placement, classes: int = 80) -> tuple[graph.Graft, DetectionModel]:
    """The base's graph with a placement in it, and its untouched model."""
    graft = graph.insert(yaml_model_load("yolov10n.yaml"), placement)
    names = COCO if classes == 80 else THREE
    return graft, weights.build(graft.yaml, names, seed=1)


def new_rows(model: DetectionModel) -> list[int]:
    """Rows of the model that are no inserted block, in order: where the base's row 0, 1, 2 ... stands."""
    return [i for i, layer in enumerate(model.model) if type(layer).__name__ != "Attend"]


def assert_all_in_place(model: DetectionModel, skip: Any = None) -> int:
    """Compare every tensor of the base with the one at its place, found by counting rows; how many were compared."""
    place, have, seen = new_rows(model), model.state_dict(), 0
    for key, tensor in base().state_dict().items():
        _, row, rest = key.split(".", 2)
        if skip and skip.match(key):
            continue
        assert torch.equal(have[f"model.{place[int(row)]}.{rest}"], tensor), key
        seen += 1
    return seen


def leaves(value: Any) -> list[Tensor]:
    """All tensors in nested lists and dicts."""
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    return [leaf for item in items for leaf in leaves(item)]


def assert_same_output(a: DetectionModel, b: DetectionModel) -> None:
    """To the bit in evaluation and in train mode, and the same BN statistics afterwards."""
    image = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(3))
    a, b = copy.deepcopy(a), copy.deepcopy(b)
    for training in (False, True):
        with torch.no_grad():
            first, second = leaves(a.train(training)(image)), leaves(b.train(training)(image))
        assert len(first) == len(second) > 2
        for x, y in zip(first, second, strict=True):
            assert x.isfinite().all()
            assert torch.equal(x, y), f"train mode {training}"
    place, have = new_rows(b), b.state_dict()
    for key, tensor in a.state_dict().items():
        _, row, rest = key.split(".", 2)
        assert torch.equal(have[f"model.{place[int(row)]}.{rest}"], tensor), key


def random_placements() -> list[Placement]:
    draw = random.Random(11)
    found = []
    for count in (2, 3, 5, 9):
        found.append(Placement.of({s: draw.choice(BLOCKS) for s in draw.sample(sorted(SITES), count)}))
    return found


SINGLE = [Placement.of({s: BLOCKS[(3 * i) % len(BLOCKS)]}) for i, s in enumerate(SITES)]


@pytest.mark.parametrize("placement", [Placement(), *SINGLE, *random_placements()], ids=lambda p: p.label)
def test_all_tensors_arrive_and_the_output_is_the_same_to_the_bit(placement: Placement) -> None:
    graft, fresh = edited(placement)
    model = copy.deepcopy(fresh)
    report = weights.transfer(base(), model, graft.moved)
    assert (report.loaded, report.total, dict(report.left_out)) == (595, 595, {})
    assert assert_all_in_place(model) == 595
    added = {str(row) for row in graft.added.values()}
    assert {name.split(".")[1] for name in report.fresh} == added
    assert len(report.fresh) == len(model.state_dict()) - 595
    assert_same_output(base(), model)


@pytest.mark.parametrize("row", [4, 10, 22])
def test_stock_loading_loses_tensors_and_puts_some_into_the_wrong_layer(row: int) -> None:
    """The negative control: without the map the problem is there, and the account sees it."""
    site = next(s.name for s in SITES.values() if s.row == row)
    graft, fresh = edited(Placement.of({site: "eca"}))
    model, before = copy.deepcopy(fresh), fresh.state_dict()
    model.load(base(), verbose=False)
    place, old, have = new_rows(model), base().state_dict(), model.state_dict()
    taken = {key for key, tensor in have.items() if key in old and not torch.equal(tensor, before[key])}
    right = {f"model.{place[int(key.split('.')[1])]}.{key.split('.', 2)[2]}" for key in old}
    wrong = {key for key in taken if place[int(key.split(".")[1])] != int(key.split(".")[1]) and key in right}
    assert len(taken) < 595
    if row < 22:
        assert wrong, "stock loading misplaces nothing any more: our map may go"
    with pytest.raises(weights.WeightError):
        weights.account(base(), model, graft.moved)


def test_one_tensor_in_the_wrong_place_is_an_error() -> None:
    graft, fresh = edited(Placement.of({"backbone.p3": "eca"}))
    model = copy.deepcopy(fresh)
    weights.transfer(base(), model, graft.moved)
    with torch.no_grad():
        next(model.model[6].parameters()).view(-1)[0] += 1e-6
    with pytest.raises(weights.WeightError, match=r"model\.5\..*did not arrive at model\.6\."):
        weights.account(base(), model, graft.moved)


@pytest.mark.parametrize("placement", [Placement(), Placement.of({"backbone.p3": "cot", "neck.p5": "mhsa"})])
def test_another_number_of_classes_is_accounted_for(placement: Placement) -> None:
    graft, fresh = edited(placement, 3)
    model = copy.deepcopy(fresh)
    report = weights.transfer(base(), model, graft.moved)
    expected = {key for key in base().state_dict() if CLASS_OUTPUT.match(key)}
    assert len(expected) == 12
    assert set(report.left_out) == expected
    assert set(report.left_out.values()) == {"class outputs: the base has 80, the model 3"}
    assert (report.loaded, report.total) == (583, 595)
    assert assert_all_in_place(model, CLASS_OUTPUT) == 583
    with torch.no_grad():
        assert all(leaf.isfinite().all() for leaf in leaves(model.eval()(torch.rand(1, 3, 64, 64))))


def test_candidates_of_a_base_with_few_classes_equal_it_to_the_bit() -> None:
    """The search's own way: COCO weights into three classes, then that base into every candidate."""
    _, plain = edited(Placement(), 3)
    few = copy.deepcopy(plain)
    weights.transfer(base(), few, {i: i for i in range(24)})
    graft, fresh = edited(Placement.of({"backbone.psa": "triplet", "neck.p3": "sk"}), 3)
    model = copy.deepcopy(fresh)
    report = weights.transfer(few, model, graft.moved)
    assert (report.loaded, report.total, dict(report.left_out)) == (595, 595, {})
    assert_same_output(few, model)


def test_new_class_outputs_do_not_depend_on_the_ambient_random_state() -> None:
    graft, fresh = edited(Placement.of({"neck.p4": "shuffle"}), 3)
    states = []
    for ambient in (1, 2):
        model = copy.deepcopy(fresh)
        torch.manual_seed(ambient)
        before = torch.get_rng_state()
        weights.transfer(base(), model, graft.moved, seed=5)
        assert torch.equal(torch.get_rng_state(), before), "the ambient state was touched"
        states.append(model.state_dict())
    for key, tensor in states[0].items():
        assert torch.equal(tensor, states[1][key]), key


def test_built_models_depend_on_their_seed_alone() -> None:
    graft = graph.insert(yaml_model_load("yolov10n.yaml"), Placement.of({"neck.p3": "eca", "neck.p5": "cot"}))
    states = []
    for ambient, seed in ((1, 5), (2, 5), (3, 6)):
        torch.manual_seed(ambient)
        states.append(weights.build(graft.yaml, THREE, seed=seed).state_dict())
    assert all(torch.equal(x, states[1][key]) for key, x in states[0].items())
    for part in (
        "model.0.conv.weight",
        next(k for k in states[0] if ".block." in k and k.endswith("weight")),
    ):
        assert not torch.equal(states[0][part], states[2][part])


def test_the_block_is_the_same_wherever_other_blocks_stand() -> None:
    """Its start must not depend on what else is in the model: candidates are compared by their blocks."""
    states = []
    for other in ({}, {"backbone.p3": "cot"}):
        graft, model = edited(Placement.of({"neck.p4": "sk", **other}))
        prefix = f"model.{graft.added['neck.p4']}."
        states.append({k.removeprefix(prefix): v for k, v in model.state_dict().items() if k.startswith(prefix)})
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())


@pytest.mark.parametrize("other", ["yolov10s.yaml", "yolov8n.yaml", "yolo11n.yaml"])
def test_weights_of_another_scale_or_architecture_are_refused(other: str) -> None:
    _graft, fresh = edited(Placement())
    stranger = weights.build(other, COCO)
    with pytest.raises(weights.WeightError):
        weights.transfer(stranger, copy.deepcopy(fresh), {i: i for i in range(len(stranger.model))})
    if other != "yolov10s.yaml":
        with pytest.raises(weights.WeightError, match=r"another architecture: row \d+"):
            weights.check_same_architecture(stranger, fresh)


def test_a_base_without_rows_for_the_rest_of_the_model_is_refused() -> None:
    _graft, fresh = edited(Placement.of({"neck.p4": "shuffle"}), 80)
    with pytest.raises(weights.WeightError):
        weights.account(base(), fresh, {i: i for i in range(24)})


def test_a_saved_checkpoint_opens_as_the_model_it_was(tmp_path) -> None:
    export.save(tmp_path / "x.pt", base(), {"data": "d.yaml", "imgsz": 64})
    opened = weights.open_model(tmp_path / "x.pt")
    for key, tensor in base().state_dict().items():
        assert torch.equal(opened.state_dict()[key], tensor.half().float() if tensor.is_floating_point() else tensor)
    assert all(p.requires_grad for p in opened.parameters())


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02}q\x00."])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(weights.WeightError, match="not a readable Ultralytics checkpoint"):
        weights.open_model(tmp_path / "x.pt")


def test_a_missing_checkpoint_is_refused(tmp_path) -> None:
    with pytest.raises(weights.WeightError, match="no such file"):
        weights.open_model(tmp_path / "x.pt")
