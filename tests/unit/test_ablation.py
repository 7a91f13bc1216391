"""The ablation table: what a paper needs, escaped, and nothing said that was not found."""

from __future__ import annotations

import re

import pytest

from nas import ablation, wording
from nas.interval import Interval
from nas.outcome import BASE, CANDIDATE, CONVOLUTION, NONE, RANDOM, Entry, Outcome
from nas.points import Point, Points

LABEL = 'neck.p3=my_block(kind="a&b_100%$") + neck.p4=eca'
PLACED = {"neck.p3": {"my_block": {"kind": "a&b_100%$"}}, "neck.p4": "eca"}


def outcome() -> Outcome:
    entries = (
        Entry(BASE, "0", {}, "base", 2_000_000, 8.7, scores=(0.40, 0.42), latency=Interval(1, 1, 1)),
        Entry(
            CANDIDATE, "1", PLACED, LABEL, 2_100_000, 8.9, scores=(0.42, 0.43), latency=Interval(1.2, 1.19, 1.21),
            gain=Interval(0.015, -0.001, 0.031),
        ),
        Entry(RANDOM, "2", {"neck.p5": "sk"}, "neck.p5=sk", 2_200_000, 9.0, gain=Interval(-0.004, -0.02, 0.018)),
        Entry(CONVOLUTION, "3", {"neck.p3": "plain_conv"}, "neck.p3=plain_conv", 2_100_000, 8.9, reason="NaN"),
    )  # fmt: skip
    return Outcome(
        "mAP50-95", "50 held_out images", "val", 50, "one2many", 7, (1, 2), 0.01, NONE, ("No gain is told.",), entries,
        {"device": "cpu", "backend": "torch", "threads": 2}, "python -m nas finalists made", "abc", {},
    )  # fmt: skip


def points(*some: Point) -> Points:
    front = tuple(p for p in some if p.front)
    base = next((p for p in some if not p.placement), None)
    return Points(
        "my_study",
        "mAP50-95",
        ("map", "latency"),
        ("maximize", "minimize"),
        "val",
        "one2many",
        some,
        base,
        front,
        8.7,
        0,
    )


BASE_POINT = Point(0, "done", "base", {}, 0.4, gain=0.0, ratio=1.0, gflops=8.7, params=2_000_000, front=True)
BEST = Point(5, "done", LABEL, PLACED, 0.41, gain=0.01, ratio=1.2, gflops=8.9, params=2_100_000, front=True)


def test_base_then_candidates_then_controls_each_with_its_figures() -> None:
    table = ablation.of(points(BASE_POINT, BEST), outcome(), {"epochs": 3})
    assert table.columns == ("block", "site", "params", "GFLOPs", "latency", "mAP50-95")
    assert [line.group for line in table.lines] == ["base", "candidate", "plain convolution", "random placement"]
    cells = [line.cells for line in table.lines]
    assert cells[0] == ("none (base)", "", "2.00 M", "8.700", "×1.00", "41.0")
    assert cells[1] == (
        'my_block(kind="a&b_100%$") + eca', "neck.p3 + neck.p4", "2.10 M", "8.900", "×1.20 ± 0.01", "+1.5 ± 1.6",
    )  # fmt: skip
    assert cells[2][-1] == "failed"
    assert cells[3][-1] == "−0.4 (−2.0 to +1.8)", "an interval that is not symmetric is told by its ends"


def test_the_note_says_what_the_figures_are() -> None:
    note = ablation.of(points(BASE_POINT), outcome(), {}).note
    for said in (
        "mAP50-95",
        "50 held_out images",
        "one2many head",
        "7 epochs",
        "2 seeds",
        "95%",
        "simultaneous",
        "41.0",
    ):
        assert said in note


def test_without_finalists_it_is_the_front_and_says_that_it_is_no_finding() -> None:
    table = ablation.of(points(BASE_POINT, BEST), None, {"epochs": 3})
    assert [line.cells[-1] for line in table.lines] == ["40.0", "41.0 (+1.0)"]
    assert "no findings" in table.note and "one seed" in table.note and "nas finalists my_study" in table.note
    assert "±" not in "".join(c for line in table.lines for c in line.cells)


@pytest.mark.parametrize("found", [outcome(), None])
def test_latex_is_booktabs_and_whole(found: Outcome | None) -> None:
    table = ablation.of(points(BASE_POINT, BEST), found, {"epochs": 3})
    text = ablation.latex(table, "Study my_study, 100% & more")
    for word in ("\\toprule", "\\midrule", "\\bottomrule", "\\begin{table}", "\\end{table}", "\\caption{"):
        assert word in text
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert len(rows) == 1 + len(table.lines)
    assert all(len(re.findall(r"(?<!\\)&", row)) == len(table.columns) - 1 for row in rows)
    assert "my\\_study, 100\\% \\& more" in text and 'kind="a\\&b\\_100\\%\\$"' in text
    assert not re.search(r"[±×−]", text)
    assert text.count("{") == text.count("}")


def test_latex_escapes_all_that_it_reads() -> None:
    assert ablation.escaped("\\input{x}~^#\n$1$") == (
        r"\textbackslash{}input\{x\}\textasciitilde{}\textasciicircum{}\# \$1\$"
    )


def test_markdown_keeps_its_columns_whatever_stands_in_a_cell() -> None:
    table = ablation.Ablation(("a|b", "c"), (ablation.Line("", ("<b>x</b>|`y`", "1\n2")),), "note *x*")
    lines = ablation.markdown(table, "t").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in (rows[0], rows[2]))
    assert rows[2] == "|  | \\<b\\>x\\</b\\>\\|\\`y\\` | 1 2 |" and lines[-1] == "note \\*x\\*"


def test_figures_are_told_in_points_with_a_true_minus_and_no_sign_at_nothing() -> None:
    assert [wording.points(x) for x in (0.1214, -0.0041, 0.0, -0.0001, None)] == ["+12.1", "−0.4", "0.0", "0.0", "-"]
    assert wording.gain(Interval(0.01, float("nan"), float("nan"))) == "+1.0"
    assert [wording.duration(s) for s in (9, 200, 7500, None)] == ["9 s", "3 min 20 s", "2 h 05 min", "-"]
