"""The architecture as a picture: every base that Ultralytics ships, sites filled and empty, nothing unescaped."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest
import yaml
from conftest import TINY

from nas import drawing, grafting, graph, layout
from search_spaces import Placement

SITES = ("backbone.p4", "neck.p3", "neck.p4", "neck.p4_td", "neck.p5")
BASES = ("yolov8n", "yolov9c", "yolov9e", "yolov10n", "yolo11n-seg", "yolo12n", "yolo26n-pose", "yolov8n-p6", "yolov3")


def parsed(picture: str) -> ET.Element:
    return ET.fromstring(picture)


def texts(picture: ET.Element, kind: str) -> list[str]:
    return [t.text or "" for t in picture.iter("text") if kind in (t.get("class") or "").split()]


@pytest.mark.parametrize("name", [*BASES, "yolo11n-cls", "yolo26n-obb"])
def test_every_base_is_drawn_with_all_its_rows(name: str) -> None:
    base = grafting.load_yaml(f"{name}.yaml")
    picture = parsed(drawing.svg(base, Placement.of({"neck.p3": "eca"}), SITES))
    assert len(texts(picture, "module")) == len(graph.rows(base))
    found = {s.name for s in graph.sites(base)}
    slots = [g.get("class") for g in picture.iter("g") if "slot" in (g.get("class") or "")]
    assert len(slots) == len(found & set(SITES))
    assert slots.count("slot filled") == ("neck.p3" in found)


def test_boxes_of_a_plan_neither_overlap_nor_leave_it() -> None:
    found = layout.rows(grafting.load_yaml("yolov10n.yaml"))
    planned = layout.plan(found, SITES)
    assert not planned.is_list and [s for s, _, _ in planned.bands] == [2, 4, 8, 16, 32]
    for i, one in enumerate(planned.boxes):
        assert one.x >= 0 and one.x + one.width <= planned.width
        assert one.y >= 0 and one.y + one.height <= planned.height
        for two in planned.boxes[i + 1 :]:
            apart = one.x + one.width <= two.x or two.x + two.width <= one.x
            assert apart or one.y + one.height <= two.y or two.y + two.height <= one.y, (one, two)


def test_rows_stand_in_the_band_of_their_stride_and_the_neck_goes_up_and_down() -> None:
    found = layout.rows(grafting.load_yaml("yolov10n.yaml"))
    planned = layout.plan(found, ())
    of = {b.row.index: b for b in planned.boxes}
    for stride, top, bottom in planned.bands:
        for box in planned.boxes:
            if box.kind == "row" and box.row.shape and box.row.shape.stride == stride:
                assert top <= box.y and box.y + box.height <= bottom
    assert [of[i].column for i in (0, 10, 11, 16, 17, 22)] == [0, 0, 1, 1, 2, 2]
    assert of[11].y > of[12].y > of[13].y > of[16].y and of[17].y < of[19].y < of[22].y


def test_what_is_no_usual_graph_becomes_a_list_of_rows() -> None:
    for name in ("yolov9e", "rtdetr-l"):  # without a stride at some rows; with a head that is not searched
        base = grafting.load_yaml(f"{name}.yaml")
        assert layout.plan(layout.rows(base), SITES).is_list
        assert len(texts(parsed(drawing.svg(base, Placement(), SITES)), "module")) == len(graph.rows(base))


@pytest.mark.parametrize("base", [{}, {"backbone": [], "head": []}, {"backbone": [1], "head": [[-1, 1, "Detect", []]]}])
def test_what_is_no_model_gives_no_picture(base: dict[str, Any]) -> None:
    assert drawing.svg(base, Placement(), SITES) == ""


def test_labels_are_escaped_and_long_ones_are_cut_with_the_whole_on_hover() -> None:
    name = 'x(kernel="</svg><script>")'
    chosen = Placement.of({"neck.p3": {"x": {"kernel": "</svg><script>"}}})
    text = drawing.svg(yaml.safe_load(TINY), chosen, ("neck.p3", "neck.p4"))
    assert "<script" not in text
    picture = parsed(text)
    (title,) = [g.find("title") for g in picture.iter("g") if g.get("class") == "slot filled"]
    assert title is not None and title.text == f"neck.p3: {name}"
    assert all(len(t) <= drawing.LETTERS for t in texts(picture, "block"))
    assert texts(picture, "block").count("empty") == 1 and name in (picture.findtext("desc") or "")
