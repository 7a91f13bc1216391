"""The report: what it says with and without a verdict, nothing from outside unescaped, nothing loaded, the pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from conftest import TINY, Result
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from nas import charts, effects_table, outcome, page, pictures, points, report_command
from nas.interval import Interval
from nas.outcome import BASE, CANDIDATE, CONVOLUTION, GAIN, LOSS, NONE, RANDOM, Entry, Outcome
from search_spaces import Block, Placement

EVIL = "<script>alert(1)</script>"
BEGAN = datetime(2025, 11, 1, 8)
EVIL_BLOCK = {"x": {"kind": EVIL}}
CHOICES = CategoricalDistribution(("none", "eca", "simam", Block.parse(EVIL_BLOCK).label))
SITES = dict.fromkeys(("backbone.p4", "neck.p3", "neck.p4"), CHOICES)
TRIED: tuple[dict[str, Any], ...] = (
    {}, {"neck.p3": "eca"}, {"neck.p4": "eca"}, {"neck.p3": "simam"}, {"backbone.p4": "eca"}, {"neck.p4": "simam"},
    {"backbone.p4": "simam"}, {"neck.p3": "eca", "neck.p4": "simam"}, {"neck.p3": "eca", "neck.p4": "eca"},
)  # fmt: skip


def attrs(placement: dict[str, Any], value: float, ratio: float, images: int = 800) -> dict[str, Any]:
    p = Placement.of(placement)
    latency = {"ms": 9.0, "ratio": ratio, "device": "cpu", "dtype": "float32", "threads": 2, "backend": "torch"}
    curve = [{"images": 272, "value": value - 0.02}, {"images": 800, "value": value}][: 1 + (images == 800)]
    score = {
        "metric": "mAP50-95", "value": curve[-1]["value"], "nms_free": None, "split": "val", "head": "one2many",
        "epochs": 1, "images_seen": images, "seed": 0, "curve": curve,
        "seconds": {"steps": 4.0, "validation": 2.0, "total": 7.0},
    }  # fmt: skip
    cost = {"params": 2_000_000, "gflops": 8.0 + len(p), "latency": latency}
    return {"placement": placement, "placement_id": p.id, "label": p.label, "score": score, "cost": cost, "workers": 2}


def trial(number: int, state: TrialState, facts: dict[str, Any], values: list[float] | None = None) -> Any:
    params = {s: Placement.of(facts["placement"]).get(s) for s in SITES}
    made = create_trial(
        state=state, values=values, user_attrs=facts, distributions=SITES,
        params={s: b.label if b else "none" for s, b in params.items()},
    )  # fmt: skip
    made.datetime_start, made.datetime_complete = (BEGAN + timedelta(seconds=10 * n) for n in (number, number + 1))
    return made


def make(storage: str | None, name: str = "made", told: Outcome | None = None, trained: bool = True) -> optuna.Study:
    study = optuna.create_study(storage=storage, study_name=name, directions=["maximize", "minimize"])
    base = yaml.safe_load(TINY) | {"yaml_file": "tiny.yaml"}
    recipe = {
        "data": "my-data", "base": None, "weights": f"{EVIL}.pt", "objectives": ["map", "latency"], "epochs": 1,
        "seed": 0, "train": {"imgsz": 64},
    }  # fmt: skip
    facts = {"base_yaml": base, "recipe": recipe, "identity": {"data": "d9f5c0", "wire": "residual"}, "ready": True}
    facts |= {"base": {"cost": {"gflops": 8.0}}, "scouted_images": 160}
    for key, value in facts.items():
        study.set_user_attr(key, value)
    if told:
        study.set_user_attr(outcome.ATTRIBUTE, json.loads(json.dumps(told.to_json())))
    if trained:
        for n, placement in enumerate(TRIED):
            value, ratio = 0.60 + 0.01 * (n % 4), 1 + 0.03 * n
            study.add_trial(trial(n, TrialState.COMPLETE, attrs(placement, value, ratio), [value, ratio]))
        paused = attrs({"neck.p4": EVIL_BLOCK}, 0.61, 1.1, 272)
        study.add_trial(trial(9, TrialState.PRUNED, paused))
        on = attrs(paused["placement"], 0.7, 1.2) | {"continues": 9}
        study.add_trial(trial(10, TrialState.COMPLETE, on, [0.7, 1.2]))
        beyond = attrs({"backbone.p4": "eca", "neck.p3": "eca"}, 0, 1.5) | {"infeasible": f"too slow {EVIL}"}
        study.add_trial(trial(11, TrialState.PRUNED, {k: v for k, v in beyond.items() if k != "score"}))
        failed = attrs({"backbone.p4": "simam", "neck.p3": "eca"}, 0, 1) | {"error": EVIL}
        failed = {k: v for k, v in failed.items() if k not in ("score", "cost")}
        study.add_trial(trial(12, TrialState.FAIL, failed))
        study.add_trial(trial(13, TrialState.COMPLETE, attrs({}, 0.6, 1.0) | {"duplicate_of": 0}, [0.6, 1.0]))
    return study


def compared(kind: str = GAIN, value: float = 0.015) -> Outcome:
    gain = Interval(value, value - 0.004, value + 0.004)
    entries = (
        Entry(BASE, "0", {}, "base", 2_000_000, 8.0, scores=(0.60, 0.61), latency=Interval(1, 1, 1), front=0.5),
        Entry(
            CANDIDATE, "1", {"neck.p3": "eca"}, "neck.p3=eca", 2_000_100, 9.0, trial=1, searched=0.02, gain=gain,
            latency=Interval(1.1, 1.09, 1.12), latency_ms=9.9, over_random=gain, front=0.9, sentence=f"Told. {EVIL}",
        ),
        Entry(RANDOM, "2", {"neck.p4": "eca"}, "neck.p4=eca", 2_000_100, 9.0, gain=Interval(0, -0.01, 0.01)),
        Entry(CONVOLUTION, "3", {"neck.p3": "plain_conv"}, "neck.p3=plain_conv", 1, 9.0, reason=f"diverged {EVIL}"),
    )  # fmt: skip
    return Outcome(
        "mAP50-95", "test", "val", 50, "one2many", 2, (7, 8), 0.004, kind, (f"The verdict {EVIL}.", "More."), entries,
        {"device": "cpu", "backend": "torch"}, "python -m nas finalists made", "abc", {"nas": "0.1.0"},
    )  # fmt: skip


class Tags(HTMLParser):
    """What a page holds: its tags with attributes, its text outside of scripts, the scripts by their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts, self.inside = "", [""], ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag if tag in ("script", "style") else ""
        self.scripts += [""] * (tag == "script")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif not self.inside:
            self.text += data


def shown(study: optuna.Study) -> str:
    return page.render(page.collect(study, points.read(study)))


def plain(text: str) -> str:
    """The page's words, spaces squeezed."""
    return " ".join(Tags(text).text.split())


@pytest.fixture(scope="module")
def told_page() -> str:
    return shown(make(None, EVIL, compared()))


def test_nothing_from_outside_becomes_a_tag_or_ends_a_script(told_page: str) -> None:
    tags = Tags(told_page)
    assert len([t for t, _ in tags.tags if t == "script"]) == 3
    assert EVIL not in told_page
    assert EVIL in tags.text, "the name itself is shown"
    assert not any(k.startswith("on") for _, a in tags.tags for k in a)
    figures = json.loads(tags.scripts[2])
    hovers = [t for f in figures.values() for trace in f["data"] for t in trace.get("text", ()) if len(t) > 1]
    assert any("&lt;script&gt;" in t for t in hovers) and not any("<script" in t for t in hovers)


def test_nothing_is_loaded_and_the_policy_forbids_it(told_page: str) -> None:
    tags = Tags(told_page).tags
    loads = [(t, a) for t, a in tags if {"src", "srcset", "data", "action"} & set(a) or t in ("link", "iframe", "base")]
    assert loads == []
    assert all(str(a["href"]).startswith("#") for _, a in tags if "href" in a)
    (policy,) = [a["content"] for _, a in tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy and policy.startswith("default-src 'none'") and "http" not in policy
    style = told_page[told_page.index("<style>") : told_page.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert len(told_page.encode()) < 6_000_000


def test_every_link_and_label_has_its_target_and_every_picture_a_name(told_page: str) -> None:
    tags = Tags(told_page).tags
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    refs = [str(a["href"])[1:] for _, a in tags if "href" in a] + [str(a["for"]) for _, a in tags if "for" in a]
    refs += [r for _, a in tags for k in ("aria-labelledby", "aria-describedby") for r in str(a.get(k) or "").split()]
    assert set(refs) <= set(ids)
    named = [a for _, a in tags if a.get("role") == "img"]
    assert named and all(a.get("aria-label") or a.get("aria-labelledby") for a in named)
    assert all(a.get("aria-hidden") or a.get("role") == "img" for t, a in tags if t == "svg")
    heads = [int(t[1]) for t, _ in tags if re.fullmatch("h[1-6]", t)]
    assert heads[0] == 1 and heads.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(heads))


@pytest.mark.parametrize(
    ("kind", "value", "said"), [(GAIN, 0.015, "gain"), (NONE, 0.001, "no gain shown"), (LOSS, -0.02, "loss")]
)
def test_every_verdict_is_told_first_with_its_intervals(kind: str, value: float, said: str) -> None:
    text = shown(make(None, told=compared(kind, value)))
    words = plain(text)
    assert f"Verdict {said} The verdict {EVIL}. More." in words
    assert words.index("The verdict") < words.index("The front ") < words.index("All trials")
    figure = {GAIN: "+1.5 ± 0.4", NONE: "+0.1 ± 0.4", LOSS: "−2.0 ± 0.4"}[kind]
    assert figure in words and f"Told. {EVIL}" in words and f"diverged {EVIL}" in words
    assert "list of candidates" not in words
    side = {GAIN: "up", NONE: "open", LOSS: "down"}[kind]
    assert f'<svg class="strip {side}"' in text
    assert ("whose gain is not shown" in words) == (kind != GAIN)


def test_without_finalists_it_says_that_these_are_candidates_and_what_makes_the_verdict() -> None:
    words = plain(shown(make(None)))
    assert "no verdict yet What follows is a list of candidates and no finding." in words
    assert "python -m nas finalists made" in words
    assert "The finalists" not in words and "simultaneous" not in words


def test_points_know_what_each_trial_took_and_which_is_the_last_of_its_placement() -> None:
    found = points.read(make(None))
    states = [p.state for p in found.all]
    assert states == ["done"] * 9 + ["paused", "done", "refused", "dead", "same"]
    assert [p.images for p in found.all[8:]] == [800, 272, 528, 0, 0, 0]
    assert found.all[9].gain == pytest.approx(0.01) and found.all[10].gain == pytest.approx(0.1)
    assert not found.of("paused"), "its placement went on"
    assert found.base is not None and found.base.number == 0
    assert [p.number for p in found.front] == [10, 3, 2, 1, 0]
    assert points.passed(found) == 140 and points.spent(found) == {"steps": 44.0, "validation": 22.0, "other": 11.0}


def test_hypervolume_counts_all_images_and_only_trainings_to_the_end() -> None:
    found = points.volumes(points.read(make(None)))
    assert [x for x, _ in found] == [160, *(160 + 800 * n for n in range(1, 10)), 160 + 7200 + 272, 160 + 8000]
    assert found[0][1] == 0 and found[1][1] == pytest.approx(0.6)  # score 0.6, latency 1 of at most 2
    assert found[-2][1] == found[-3][1] and found[-1][1] > found[-2][1]
    assert all(a <= b for (_, a), (_, b) in pairwise(found))


def test_scores_of_the_search_and_of_finalists_never_share_a_picture() -> None:
    found = points.read(make(None))
    drawn = page.figures(found, compared())
    assert list(drawn) == ["search-latency", "finalists-latency", "curves", "volume"]
    assert "on val" in drawn["search-latency"]["layout"]["yaxis"]["title"]["text"]
    assert "on test" in drawn["finalists-latency"]["layout"]["yaxis"]["title"]["text"]
    candidate = next(t for t in drawn["finalists-latency"]["data"] if t["name"] == "candidate")
    assert candidate["y"] == [1.5] and candidate["error_y"]["array"] == [0.4]
    assert candidate["error_x"]["array"] == [0.02] and candidate["error_x"]["arrayminus"] == [0.01]
    for figure in drawn.values():
        groups = [(t["marker"]["symbol"], t["name"]) for t in figure["data"] if t["mode"] == "markers"]
        assert len({symbol for symbol, _ in groups}) == len(groups), "told apart without colour"


def test_what_was_not_trained_lies_at_the_lower_edge() -> None:
    figure = charts.search(points.read(make(None)), "latency")
    below = next(t for t in figure["data"] if "beyond" in t.get("name", ""))
    low, _ = figure["layout"]["yaxis"]["range"]
    assert below["x"] == [1.5] and low < below["y"][0] < 0.6


def test_at_most_forty_curves_with_the_base_drawn_last() -> None:
    found = points.read(make(None))
    many = tuple(
        replace(
            found.all[1], number=100 + n, front=False, value=0.5 + n / 1000, curve=((272, 0.4), (800, 0.5 + n / 1000))
        )
        for n in range(200)
    )
    chosen = charts.chosen_curves(replace(found, all=found.all + many))
    assert len(chosen) == charts.MOST_CURVES and chosen[-1].number == 0
    assert {p.number for p in found.front} <= {p.number for p in chosen}
    sample = sorted(p.number for p in chosen if p.number >= 100)
    assert sample[-1] == 299 and sample[0] < 110, "even in score"


def test_the_table_has_every_trial_as_it_is_sorted_by(told_page: str) -> None:
    rows = page.collect(make(None), points.read(make(None))).rows
    assert len(rows) == 14
    cells, on_front = rows[10]
    assert on_front and cells[:2] == ("10", "to the end") and cells[3:6] == ("0.7000", "+0.1000", "1.200")
    assert cells[7:] == ("2,000,000", "528", "7.0", "")
    assert [r[0][1] for r in rows[9:]] == ["lower rung", "to the end", "beyond a limit", "failed", "repeat"]
    assert rows[12][0][-1] == EVIL and rows[13][0][-1] == "same as trial 0"
    table = told_page[told_page.index('<table id="all">') :]
    assert table.count("<tr") == 15 and table.count('aria-sort="ascending"') == 1
    assert unescape(table).count("<button") == len(rows[0][0])


def test_effects_are_shown_with_intervals_or_the_reason_why_not() -> None:
    grid = effects_table.read(make(None))
    assert grid.sites == ("mean", "backbone.p4", "neck.p3", "neck.p4") and grid.rows[-1][0] == "mean"
    assert all("±" in cell.text for _, cells in grid.rows for cell in cells.values())
    study = make(None, trained=False)
    study.add_trial(trial(0, TrialState.COMPLETE, attrs({}, 0.6, 1.0), [0.6, 1.0]))
    assert "at least" in effects_table.read(study).refused
    assert "Not told: made: effects need" in plain(shown(study))


def test_many_pairs_are_not_asked_for_and_the_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    study = make(None)
    twice = attrs(TRIED[-1] | {"backbone.p4": "eca"}, 0.64, 1.3)
    study.add_trial(trial(14, TrialState.COMPLETE, twice, [0.64, 1.3]))
    asked = effects_table.read(study)
    monkeypatch.setattr(effects_table, "MOST_PAIRS", 0)
    left = effects_table.read(study)
    assert "not asked here" in left.sentences[-1] and "not asked here" not in asked.sentences[-1]


def test_a_search_of_three_objectives_has_a_picture_for_each_cost() -> None:
    found = points.read(make(None))
    some = tuple(replace(p, values=(*p.values, p.gflops)) if p.values and p.gflops else p for p in found.all)
    wanted = ("map", "latency", "gflops")
    found = replace(found, objectives=wanted, directions=("maximize", "minimize", "minimize"), all=some)
    drawn = page.figures(found, compared())
    assert {"search-latency", "search-gflops", "finalists-latency", "finalists-gflops"} <= set(drawn)
    assert not any(t["mode"] == "lines" for t in drawn["search-gflops"]["data"]), "no line: the front is a surface"


def test_json_in_a_script_neither_ends_it_nor_is_anything_but_json() -> None:
    text = page.script_json({"a": "</script><!-- & \u2028"})
    assert not set("<>&\u2028") & set(text) and json.loads(text) == {"a": "</script><!-- & \u2028"}
    with pytest.raises(ValueError):
        page.script_json(float("nan"))


def test_the_command_writes_the_page_and_its_pictures(tmp_path: Path, cli: Callable[..., Result]) -> None:
    (tmp_path / "runs" / "made").mkdir(parents=True)
    make(f"sqlite:///{tmp_path}/runs/made/study.db", told=compared())
    done = cli("report", "made", "--output", tmp_path / "runs")
    assert done.code == 0, done.text
    folder = tmp_path / "runs" / "made"
    names = {"report.html", "pareto.png", "hypervolume.png", "verdict.png"}
    assert {p.name for p in folder.iterdir()} == names | {"study.db"}
    assert all((folder / n).read_bytes().startswith(b"\x89PNG") for n in names if n.endswith("png"))
    assert done.out.count("Written: ") == 4
    before = (folder / "report.html").read_bytes()
    cli("report", "made", "--output", tmp_path / "runs", "--to", tmp_path / "new" / "place")
    assert (tmp_path / "new" / "place" / "report.html").read_bytes() == before, "the same study, the same page"


def test_a_study_whose_name_is_no_folder_is_found_in_its_storage(tmp_path: Path, cli: Callable[..., Result]) -> None:
    url, evil = f"sqlite:///{tmp_path}/x.db", EVIL.replace("/", "")  # a name that is a path is refused
    make(url, evil)
    done = cli("report", evil, "--storage", url, "--to", tmp_path / "out")
    assert done.code == 0, done.text
    assert evil not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    table = cli("report", evil, "--storage", url, "--markdown").out
    assert "\\<script\\>" in table and "nas finalists" in table


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--latex", "--markdown"), "--latex and --markdown: expected one of them"),
        (("--latex", "--to", "x"), "a table is printed, not written"),
        ((), "no trained trial yet"),
    ],
)
def test_what_cannot_be_reported_is_one_line(tmp_path: Path, cli: Callable[..., Result], args: Any, said: str) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    make(url, trained=False)
    done = cli("report", "made", "--storage", url, *args)
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    make(url)
    (tmp_path / "file").write_text("")
    with pytest.raises(report_command.ReportError, match="cannot be written"):
        report_command.command("made", tmp_path / "file", False, False, url, "runs")


def test_dollars_in_names_are_no_formulas_in_pictures(tmp_path: Path) -> None:
    found = replace(points.read(make(None)), study="a$b$_{c", metric="m$A^P")
    told = replace(compared(), sentences=("$x^2$ " + 30 * "long ",), split="$te_st")
    assert len(pictures.write(found, told, tmp_path)) == 3
