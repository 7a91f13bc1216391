"""The report and the dashboard in a real browser: hovered, clicked, downloaded from; nothing asked of the network."""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser_support import opened, watched
from conftest import Searched, call_cli
from integration_support import start
from test_dashboard import free_port

from nas import dashboard, export, outcome
from nas.interval import Interval
from nas.outcome import CANDIDATE, Outcome

PLOT = ".js-plotly-plot"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One for all tests here."""
    with opened() as found:
        yield found


@pytest.fixture(scope="module")
def judged(searched: Searched, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A finished study with its finalists judged and its report written."""
    output = tmp_path_factory.mktemp("judged") / "runs"
    shutil.copytree(searched.output, output)
    asked = ("--output", output, "--count", 1, "--seeds", 3, "--epochs", 1, "--workers", 1, "--anyway")
    assert call_cli("finalists", "first", *asked).code == 0
    study, folder = dashboard.find("first", None, str(output))
    found = outcome.of_study(study)
    assert found is not None and (folder / "report.html").is_file()
    found = apart(found)
    study.set_user_attr(outcome.ATTRIBUTE, found.to_json())
    assert call_cli("report", "first", "--output", output).code == 0
    return folder, found


def apart(found: Outcome) -> Outcome:
    """The same with points that do not hide one another, as those of a model that has learnt nothing do."""
    entries = [
        replace(
            e,
            gain=Interval(0.01 * i, 0.01 * i - 0.002, 0.01 * i + 0.002) if i else None,
            latency=Interval(1 + 0.3 * i, 0.98 + 0.3 * i, 1.02 + 0.3 * i),
        )
        for i, e in enumerate(found.entries)
    ]
    return replace(found, entries=tuple(entries))


def hover(page: Any, plot: str, name: str) -> str:
    """Move the mouse over the first point of a chart's trace; what the chart says then."""
    page.locator(plot).scroll_into_view_if_needed()
    place = page.evaluate(
        """([plot, name]) => {
            const g = document.querySelector(plot), box = g.getBoundingClientRect(), laid = g._fullLayout;
            const trace = g._fullData.find(t => t.name === name && t.x && t.x.length);
            const x = laid[trace.xaxis.replace('x', 'xaxis')], y = laid[trace.yaxis.replace('y', 'yaxis')];
            return [box.x + x._offset + x.d2p(trace.x[0]), box.y + y._offset + y.d2p(trace.y[0])];
        }""",
        [plot, name],
    )
    page.mouse.move(place[0] - 3, place[1] - 3)
    page.mouse.move(*place, steps=4)
    label = page.locator(f"{plot} .hoverlayer .hovertext").first
    label.wait_for(timeout=5000)
    page.wait_for_timeout(200)  # the label of the point before fades
    return str(label.text_content())


def traces(page: Any, plot: str) -> list[str]:
    """Names of a chart's traces that have points."""
    return page.evaluate(
        "p => document.querySelector(p)._fullData.filter(t => t.x && t.x.length).map(t => t.name)", plot
    )


def test_the_report_tells_the_verdict_first_and_asks_nobody(browser: Any, judged: tuple[Path, Outcome]) -> None:
    folder, found = judged
    with watched(browser) as w:
        w.page.goto((folder / "report.html").as_uri())
        w.page.wait_for_selector(f"#plot-search-latency{PLOT}")
        text = " ".join(w.page.locator("#verdict").inner_text().split())
        for sentence in found.sentences:
            assert " ".join(sentence.split()) in text
        first = w.page.locator("main section").first
        assert first.get_attribute("id") == "verdict"
        for e in found.entries:
            assert all(part in text for part in e.label.split(" + "))
        w.page.wait_for_timeout(300)
        w.assert_quiet()


def test_points_of_the_report_tell_their_placement(browser: Any, judged: tuple[Path, Outcome]) -> None:
    folder, found = judged
    (candidate,) = found.of(CANDIDATE)
    with watched(browser) as w:
        w.page.goto((folder / "report.html").as_uri())
        plot = f"#plot-finalists-latency{PLOT}"
        w.page.wait_for_selector(plot)
        told = " ".join(hover(w.page, plot, name) for name in traces(w.page, plot))
        assert all(part in told for part in candidate.label.split(" + ")) and "base" in told
        shown = w.page.locator(f"{plot} .legend .traces").first
        before = w.page.evaluate("p => document.querySelector(p)._fullData.map(t => String(t.visible))", plot)
        shown.locator(".legendtoggle").click()
        w.page.wait_for_function(
            "([p, old]) => document.querySelector(p)._fullData.map(t => String(t.visible)).join() !== old.join()",
            arg=[plot, before],
        )
        w.assert_quiet()


def test_the_trials_sort_and_filter(browser: Any, judged: tuple[Path, Outcome]) -> None:
    folder, _ = judged
    with watched(browser) as w:
        w.page.goto((folder / "report.html").as_uri())
        rows = w.page.locator("#all tbody tr:visible")
        total = rows.count()
        head = w.page.locator("#all thead th").nth(0)
        first = numbers(w.page)
        assert head.get_attribute("aria-sort") == "ascending" and first == sorted(first, key=int)
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending" and numbers(w.page) == first[::-1]
        head.locator("button").focus()
        w.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending" and numbers(w.page) == first
        w.page.fill("#filter", "base")
        assert 1 <= rows.count() < total
        w.page.fill("#filter", "nothing is called so")
        assert rows.count() == 0
        w.assert_quiet()


def numbers(page: Any) -> list[str]:
    """The trials' numbers, from the top of the table."""
    cells = page.locator("#all tbody tr td:first-child, #all tbody tr th:first-child")
    return [text.split()[0] for text in cells.all_inner_texts()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_on_a_phone_and_on_paper(browser: Any, judged: tuple[Path, Outcome], scheme: str) -> None:
    folder, _ = judged
    with watched(browser, viewport={"width": 390, "height": 844}, color_scheme=scheme, is_mobile=True) as w:
        w.page.goto((folder / "report.html").as_uri())
        w.page.wait_for_selector(f"#plot-search-latency{PLOT}")
        assert w.page.evaluate("document.documentElement.scrollWidth") <= 390
        lightness = "s => s.match(/[0-9.]+/g).slice(0, 3).map(Number).reduce((a, b) => a + b) / 765"
        background = w.page.evaluate(f"({lightness})(getComputedStyle(document.body).backgroundColor)")
        assert background > 0.8 if scheme == "light" else background < 0.3
        w.page.emulate_media(media="print")
        w.page.wait_for_timeout(300)
        paper = w.page.evaluate(f"({lightness})(getComputedStyle(document.body).backgroundColor)")
        assert paper > 0.8 and not w.page.locator("#filter").is_visible()
        w.assert_quiet()


@pytest.fixture(scope="module")
def served(judged: tuple[Path, Outcome]) -> Iterator[str]:
    """The dashboard's address on the judged study."""
    folder, _ = judged
    port = free_port()
    process = start("dashboard", "first", "--output", folder.parent, "--port", port, cwd=folder.parent)
    root = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            try:
                with urllib.request.urlopen(f"{root}/api/studies", timeout=10) as answer:
                    (entry,) = json.loads(answer.read())["study_summaries"]
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.25)
        yield f"{root}/dashboard/studies/{entry['study_id']}"
    finally:
        process.terminate()
        process.wait(30)


def test_the_dashboard_shows_the_picture_and_the_note(browser: Any, served: str, judged: tuple[Path, Outcome]) -> None:
    with watched(browser) as w:
        w.page.goto(served)
        w.page.wait_for_selector(PLOT, timeout=20_000)
        w.page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length > 1", timeout=20_000)
        ours = w.page.evaluate(
            """() => [...document.querySelectorAll('.js-plotly-plot')].map(g => g._fullData.map(t => t.name))
                .findIndex(names => names.includes('untouched base'))"""
        )
        assert ours >= 0
        w.page.evaluate("i => { document.querySelectorAll('.js-plotly-plot')[i].id = 'ours'; }", ours)
        told = " ".join(hover(w.page, "#ours", name) for name in traces(w.page, "#ours") if name != "trace 0")
        assert "trial " in told and "latency x" in told and ("neck." in told or "backbone." in told)
        w.page.goto(f"{served}/note")
        sentence = judged[1].sentences[0]
        w.page.get_by_text(sentence[:40]).first.wait_for(timeout=20_000)
        w.assert_quiet()


def test_a_file_of_the_dashboard_trains_a_step(
    browser: Any, served: str, judged: tuple[Path, Outcome], tiny_data: Path, tmp_path: Path
) -> None:
    from ultralytics import YOLO

    study, _ = dashboard.find("first", None, str(judged[0].parent))
    placed = next(t for t in export.finished(study) if t.user_attrs["placement"])
    with watched(browser, accept_downloads=True) as w:
        files = {}
        for trial, ending in ((placed, ".yaml"), (export.front_trials(study)[0], ".pt")):
            w.page.goto(f"{served}/trials?numbers={trial.number}")
            name = f"{export.point_name(trial)}{ending}"
            w.page.wait_for_selector(f"text={name}", timeout=20_000)
            with w.page.expect_download(timeout=20_000) as got:
                w.page.locator(f"a[download='{name}']").first.click()
            files[ending] = tmp_path / got.value.suggested_filename
            got.value.save_as(files[ending])
            assert files[ending].name == name
        w.assert_quiet()
    for file in files.values():
        model = YOLO(str(file))
        model.train(
            data=str(tiny_data), epochs=1, imgsz=64, batch=8, workers=0, plots=False, device="cpu",
            project=str(tmp_path / "out"), name=file.suffix[1:], verbose=False,
        )  # fmt: skip
        assert any((tmp_path / "out").rglob("last.pt"))
