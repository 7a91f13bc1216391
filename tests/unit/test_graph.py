"""The graph edit: what a row read before, it reads after, or the block that follows it. Sites are where they say."""

from __future__ import annotations

import copy
import itertools
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import ultralytics
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ultralytics.nn.modules import Conv
from ultralytics.nn.tasks import yaml_model_load

from nas import graph, weights
from search_spaces import Block, Placement

CONV = [-1, 1, "Conv", [8, 3, 2]]
FOLDER = Path(ultralytics.__file__).parent / "cfg" / "models"
OTHER_TASKS = ("-seg", "-pose", "-obb", "-cls", "-sem", "-depth", "yoloe")
FILES = sorted(
    path.name
    for family in ("v8", "v10", "11", "12", "26")
    for path in (FOLDER / family).glob("*.yaml")
    if not any(task in path.name for task in OTHER_TASKS)
)
STOCK = ("yolov8.yaml", "yolov10n.yaml", "yolo11.yaml", "yolo12.yaml", "yolo26.yaml")
V10_ROWS = {
    "backbone.p2": 2,
    "backbone.p3": 4,
    "backbone.p4": 6,
    "backbone.p5": 8,
    "backbone.psa": 10,
    "neck.p4_td": 13,
    "neck.p3": 16,
    "neck.p4": 19,
    "neck.p5": 22,
}
V10_STRIDES = (4, 8, 16, 32, 32, 16, 8, 16, 32)


@cache
def stock(name: str) -> dict[str, Any]:
    """A stock YAML as a dict, scale n where it has scales."""
    return yaml_model_load(name)


def scaled(name: str) -> str:
    """``yolov8-p2.yaml`` -> ``yolov8n-p2.yaml``: the file is found and read at scale n."""
    stem = name.removesuffix(".yaml")
    if name.startswith("yolov10"):
        return name
    number = stem.split("-")[0]
    return name.replace(number, f"{number}n", 1)


def detects(name: str) -> bool:
    """Does the model end in a head that we know?"""
    return graph.rows(stock(name))[-1][2] in ("Detect", "v10Detect")


def read_by(rows: list[list[Any]]) -> list[list[int]]:
    """For each row the absolute rows that it reads; -1 is the image."""
    found = []
    for i, (source, *_) in enumerate(rows):
        many = source if isinstance(source, list) else [source]
        found.append([s if s >= 0 else max(i + s, -1) for s in many])
    return found


def traced(base: list[list[Any]], edited: list[list[Any]], at: set[int]) -> list[tuple[str, int]]:
    """What each row of the edited model is: ("row", old) or ("block", old row before it), by order alone."""
    kinds: list[tuple[str, int]] = []
    for old in range(len(base)):
        kinds.append(("row", old))
        if old in at:
            kinds.append(("block", old))
    assert len(kinds) == len(edited)
    return kinds


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, set[int]]:
    """A stock model and rows to put blocks after; never the head."""
    name = draw(st.sampled_from(FILES))
    count = len(graph.rows(stock(name)))
    return name, draw(st.sets(st.integers(0, count - 2)))


def check_edit(name: str, at: set[int]) -> None:
    """Insert and compare all edges by an interpretation of our own."""
    base = stock(name)
    before = copy.deepcopy(base)
    graft = graph.insert_rows(base, {row: (f"site{row}", ["c2", "eca"]) for row in at})
    assert base == before, "the input was changed"
    old_rows, new_rows = graph.rows(base), graph.rows(graft.yaml)
    kinds = traced(old_rows, new_rows, at)
    old_reads, new_reads = read_by(old_rows), read_by(new_rows)
    for new, (kind, old) in enumerate(kinds):
        seen = [("image", -1) if s < 0 else kinds[s] for s in new_reads[new]]
        if kind == "block":
            assert new_rows[new][1:] == [1, "Attend", ["c2", "eca"]]
            assert seen == [("row", old)]
            assert graft.added[f"site{old}"] == new
        else:
            assert new_rows[new][1:] == old_rows[old][1:]
            assert graft.moved[old] == new
            wanted = [("image", -1) if s < 0 else ("block" if s in at else "row", s) for s in old_reads[old]]
            assert seen == wanted
    assert sorted(graft.moved) == list(range(len(old_rows)))
    steps = [graft.moved[i] for i in range(len(old_rows))]
    assert all(a < b for a, b in itertools.pairwise(steps))
    assert len(graft.added) == len(at)
    assert {k: v for k, v in graft.yaml.items() if k not in ("backbone", "head")} == {
        k: v for k, v in base.items() if k not in ("backbone", "head")
    }
    extra = sum(row < len(base["backbone"]) for row in at)
    assert len(graft.yaml["backbone"]) == len(base["backbone"]) + extra


def test_all_families_are_covered() -> None:
    assert set(STOCK) <= set(FILES)
    assert {f"yolov10{s}.yaml" for s in "nsmblx"} <= set(FILES)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(edits())
def test_every_row_reads_what_it_read_or_the_block_after_it(edit: tuple[str, set[int]]) -> None:
    check_edit(*edit)


@pytest.mark.parametrize("name", FILES)
def test_a_block_after_any_one_row_and_after_all_rows(name: str) -> None:
    count = len(graph.rows(stock(name)))
    for row in range(count - 1):
        check_edit(name, {row})
    check_edit(name, set(range(count - 1)))


@pytest.mark.parametrize("name", FILES)
def test_the_empty_placement_changes_nothing(name: str) -> None:
    base = stock(name)
    graft = graph.insert(base, Placement())
    assert graft.yaml == base
    assert graft.yaml is not base
    assert graft.moved == {i: i for i in range(len(graph.rows(base)))}
    assert graft.added == {}


def test_relative_references_beyond_the_row_before_still_arrive() -> None:
    conv = [-1, 1, "Conv", [8]]
    base = {"backbone": [conv, conv, [-2, 1, "Conv", [8]], [[-1, -3], 1, "Concat", [1]]], "head": []}
    rows = graph.rows(graph.insert_rows(base, {0: ("a", []), 1: ("b", [])}).yaml)
    assert [row[2] for row in rows] == ["Conv", "Attend", "Conv", "Attend", "Conv", "Concat"]
    assert read_by(rows) == [[-1], [0], [1], [2], [1], [4, 1]]


@pytest.mark.parametrize("scale", "nsmblx")
def test_sites_of_yolov10(scale: str) -> None:
    found = graph.sites(stock(f"yolov10{scale}.yaml"))
    assert {s.name: s.row for s in found} == V10_ROWS
    assert tuple(s.stride for s in found) == V10_STRIDES


def assert_sites_are_true(name: str, size: int) -> None:
    """Compare strides and channels with what hooks see in the built model."""
    base = yaml_model_load(name)
    found = graph.sites(base)
    assert found
    assert len({s.name for s in found}) == len({s.row for s in found}) == len(found)
    model = weights.build(base, {0: "a", 1: "b"}).eval()
    seen: dict[int, tuple[int, ...]] = {}
    for site in found:
        model.model[site.row].register_forward_hook(lambda m, i, y: seen.__setitem__(m.i, tuple(y.shape)))
    with torch.no_grad():
        model(torch.zeros(1, 3, size, size))
    for site in found:
        side = site.size(size)
        assert seen[site.row] == (1, site.channels, side, side), site


@pytest.mark.parametrize("scale", "ns")
def test_sites_are_as_wide_and_as_large_as_hooks_see_them(scale: str) -> None:
    assert_sites_are_true(f"yolov10{scale}.yaml", 128)


@pytest.mark.slow
@pytest.mark.parametrize("scale", "mblx")
def test_sites_of_the_larger_scales_are_true(scale: str) -> None:
    assert_sites_are_true(f"yolov10{scale}.yaml", 64)


@pytest.mark.parametrize("name", [n for n in FILES if detects(n) and not n.startswith("yolov10")])
def test_sites_of_every_detection_yaml_are_true(name: str) -> None:
    assert_sites_are_true(scaled(name), 128)


def test_unknown_site_names_the_nearest() -> None:
    with pytest.raises(graph.GraphError, match=r"unknown site 'neck\.p33'.*did you mean 'neck\.p3'\?"):
        graph.insert(stock("yolov10n.yaml"), Placement.of({"neck.p33": "eca"}))


def test_insert_writes_options_and_wire() -> None:
    placement = Placement((("neck.p3", Block("eca", (("kernel_size", 5),))), ("neck.p4", Block("sk"))))
    rows = graph.rows(graph.insert(stock("yolov10n.yaml"), placement).yaml)
    assert [r[3] for r in rows if r[2] == "Attend"] == [["c2", "eca", {"kernel_size": 5}], ["c2", "sk"]]
    plain = graph.rows(graph.insert(stock("yolov10n.yaml"), placement, "plain").yaml)
    assert [r[3] for r in plain if r[2] == "Attend"] == [
        ["c2", "eca", {"kernel_size": 5}, "plain"],
        ["c2", "sk", {}, "plain"],
    ]


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"head": [[[0], 1, "RTDETRDecoder", [2]]]}, r"row 1 \(RTDETRDecoder\): expected a head, one of Detect, .*OBB"),
        ({"backbone": [[-1, 1, "Conv", ["x", 3, 2]]]}, r"row 0 \(Conv\): TypeError"),
        ({"backbone": [CONV, [-1, 1, "Mine", [8]]]}, r"row 1 \(Mine\): Ultralytics knows no module 'Mine'"),
        ({"backbone": [CONV, [[-1, 0], 1, "C2f", [8]]]}, r"row 1 \(C2f\): TypeError"),
        ({"backbone": [CONV, CONV, [[-1, 0], 1, "Concat", [1]]]}, r"row 2 \(Concat\): RuntimeError: Sizes of tensors"),
        ({"backbone": [CONV, [5, 1, "Conv", [8]]]}, r"row 1 \(Conv\): reads row 5, which is not before it"),
        ({"backbone": [[-1, 1, "Conv"]]}, r"row 0: expected \[from, repeats, module, args\]"),
        ({"backbone": []}, r"backbone: expected a list of rows"),
    ],
)
def test_a_graph_that_is_not_understood_is_refused_with_its_row(part: dict[str, Any], says: str) -> None:
    base = {"nc": 2, "backbone": [CONV], "head": [[[0], 1, "Detect", [2]]]} | part
    with pytest.raises(graph.GraphError, match=says):
        graph.sites(base)


def test_a_refused_graph_leaves_the_parser_as_it_was() -> None:
    before = Conv.default_act
    bad = {
        "nc": 2,
        "activation": "nn.ReLU()",
        "backbone": [CONV, [-1, 1, "Mine", [8]]],
        "head": [[[0], 1, "Detect", [2]]],
    }
    with pytest.raises(graph.GraphError):
        graph.sites(bad)
    assert Conv.default_act is before


BACKBONE = {"backbone.p2": 2, "backbone.p3": 4, "backbone.p4": 6, "backbone.p5": 8}
V8 = {**BACKBONE, "neck.p4_td": 12, "neck.p3": 15, "neck.p4": 18, "neck.p5": 21}
V12 = {**BACKBONE, "neck.p4_td": 11, "neck.p3": 14, "neck.p4": 17, "neck.p5": 20}
FAMILIES = {"yolov8": V8, "yolo11": V10_ROWS, "yolo12": V12, "yolo26": V10_ROWS}
V9E = {"backbone.p2": 19, "backbone.p3": 22, "backbone.p4": 25, "backbone.p5": 28, "neck.p4_td": 32, "neck.p3": 35}


def places(base: Any) -> dict[str, int]:
    """Site -> row."""
    return {s.name: s.row for s in graph.sites(base if isinstance(base, dict) else yaml_model_load(base))}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", ["", "-seg", "-pose", "-obb"])
def test_the_same_thing_has_the_same_name_in_every_family_and_task(family: str, task: str) -> None:
    assert places(f"{family}n{task}.yaml") == FAMILIES[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_classifier_has_the_sites_of_its_backbone(family: str) -> None:
    psa = {"backbone.psa": 9} if family in ("yolo11", "yolo26") else {}
    assert places(f"{family}n-cls.yaml") == BACKBONE | psa


def test_sites_of_yolov9() -> None:
    for scale in "tsmc":
        assert places(f"yolov9{scale}.yaml") == V8
    assert places("yolov9e.yaml") == V9E | {"neck.p4": 38, "neck.p5": 41}


def test_more_levels_have_more_names() -> None:
    more = {"neck.p3_td": 15, "neck.p2": 18, "neck.p3": 21, "neck.p4": 24, "neck.p5": 27}
    assert places("yolov8n-p2.yaml") == {**BACKBONE, "neck.p4_td": 12, **more}
    assert set(places("yolov8n-p6.yaml")) - set(V8) == {"backbone.p6", "neck.p5_td", "neck.p6"}


def test_a_base_with_blocks_in_it_keeps_its_names_and_they_follow_the_blocks() -> None:
    blocks = dict.fromkeys(V10_ROWS, "eca")
    graft = graph.insert(stock("yolov10n.yaml"), Placement.of(blocks))
    assert places(graft.yaml) == graft.added


def test_a_base_written_in_one_section_has_the_same_sites() -> None:
    base = copy.deepcopy(stock("yolov8.yaml"))
    base["backbone"], base["head"] = graph.rows(base)[:-1], graph.rows(base)[-1:]
    assert places(base) == V8


def test_a_custom_base_with_another_neck_and_two_stages_of_a_name() -> None:
    base = copy.deepcopy(stock("yolov8.yaml"))
    base["head"][2:2] = [[-1, 1, "Conv", [512, 1, 1]], [[-1, 6], 1, "Concat", [1]], [-1, 1, "C2f", [512]]]
    base["head"][6:] = [[[12, 15], 1, "Concat", [1]], [-1, 1, "C2f", [512]], [-1, 1, "nn.Upsample", [None, 2]]]
    base["head"] += [[-1, 1, "Conv", [256, 1, 1]], [[12, 15, 19], 1, "Detect", ["nc"]]]
    found = {name: row for name, row in places(base).items() if name.startswith("neck")}
    assert found == {"neck.p4": 12, "neck.p4_2": 15, "neck.p4_td": 17, "neck.p3": 19}
