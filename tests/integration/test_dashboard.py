"""The dashboard as its API serves it: the study, its notes, its picture and its files, also while the search runs."""

from __future__ import annotations

import copy
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard
import pytest
from conftest import Searched
from integration_support import start
from optuna.trial import TrialState, create_trial
from optuna_dashboard.artifact._backend import list_study_artifacts

from nas import board_files, dashboard, export, report
from nas.interval import Interval
from nas.outcome import ATTRIBUTE, BASE, CANDIDATE, GAIN, RANDOM, Entry, Outcome


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


@contextmanager
def served(found: Searched) -> Iterator[str]:
    """The dashboard as a process of its own; its address."""
    port = free_port()
    process = start("dashboard", "first", "--output", found.output, "--port", port, cwd=found.output)
    try:
        for _ in range(480):
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            try:
                get(f"http://127.0.0.1:{port}/api/studies")
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.25)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def detail(root: str) -> Any:
    """What the dashboard shows of its one study."""
    (entry,) = json.loads(get(f"{root}/api/studies"))["study_summaries"]
    assert entry["study_name"] == "first"
    return json.loads(get(f"{root}/api/studies/{entry['study_id']}?after=0"))


def picture(found: Any) -> str:
    """The one picture that was stored, which is never half of one."""
    (one,) = found["plotly_graph_objects"]
    assert one["id"] == "pareto" and json.loads(one["graph_object"])["data"]
    return str(one["graph_object"])


def files(shown: Any) -> dict[str, str]:
    """A page's artifacts: name -> id."""
    return {a["filename"]: a["artifact_id"] for a in shown["artifacts"]}


def names_of(trial: optuna.trial.FrozenTrial) -> set[str]:
    """The files of a point on the front."""
    return {export.point_name(trial) + end for end in (".yaml", ".json", ".md", ".pt", ".csv")}


def test_the_dashboard_shows_the_study(copied: Searched) -> None:
    number, on_front = copied.study._study_id, {t.number for t in export.front_trials(copied.study)}
    with served(copied) as root:
        found = detail(root)
        assert found["objective_names"] == ["mAP50-95", "latency (x base)", "GFLOPs"]
        assert "# first" in found["note"]["body"] and "no findings" in found["note"]["body"]
        assert len(found["trials"]) == 4
        assert all("mAP50-95" in t["note"]["body"] for t in found["trials"])
        assert "untouched base" in picture(found)
        assert set(files(found)) == {"curves.csv"}
        table = get(f"{root}/artifacts/{number}/{files(found)['curves.csv']}").decode().splitlines()
        assert table[0] == "trial,placement,images,value" and len(table) == 1 + 4
        for trial in copied.study.trials:
            shown, name = found["trials"][trial.number], export.point_name(trial)
            have, page = files(shown), f"{root}/artifacts/{number}/{shown['trial_id']}"
            assert b"backbone:" in get(f"{page}/{have[f'{name}.yaml']}")
            if trial.number not in on_front:
                assert f"{name}.pt" not in have
                continue
            assert set(have) == names_of(trial) and len(have) == len(shown["artifacts"])
            card = json.loads(get(f"{page}/{have[f'{name}.json']}"))
            assert name == f"trial-{card['trial']}-{card['placement_id']}"
            assert f"# {name}" in get(f"{page}/{have[f'{name}.md']}").decode()
            assert get(f"{page}/{have[f'{name}.csv']}").decode().startswith("images,value\n")
            with urllib.request.urlopen(f"{page}/{have[f'{name}.pt']}", timeout=10) as answer:
                assert answer.headers["Content-Disposition"] == f"attachment; filename={name}.pt"
                assert answer.read() == export.checkpoint(copied.folder, trial.number).read_bytes()
            link = f"/artifacts/{number}/{shown['trial_id']}/{have[f'{name}.pt']}"
            assert f"[pt]({link})" in found["note"]["body"], "the note's table links to each file"


def better(study: optuna.Study, folder: Path) -> optuna.trial.FrozenTrial:
    """Add a trial that beats every other, as a search stores it."""
    old = max(study.trials, key=lambda t: len(t.user_attrs["placement"]))
    attrs = copy.deepcopy(old.user_attrs) | {"placement_id": "f" * 10, "label": "neck.p3=new|`block`"}
    attrs["score"]["value"], attrs["cost"]["latency"]["ratio"], attrs["cost"]["gflops"] = 0.99, 0.5, 0.001
    values = [0.99, 0.5, 0.001]
    study.add_trial(
        create_trial(
            state=TrialState.COMPLETE,
            values=values,
            params=old.params,
            distributions=old.distributions,
            user_attrs=attrs,
        )
    )
    export.checkpoint(folder, study.trials[-1].number).write_bytes(b"weights")
    return study.trials[-1]


def test_it_is_refreshed_while_the_search_runs(copied: Searched) -> None:
    study = copied.study
    before = export.front_trials(study)
    with served(copied) as root:
        old = detail(root)
        assert "neck.p3=new" not in old["note"]["body"] + picture(old)
        new = better(study, copied.folder)
        found = old
        for _ in range(60):
            time.sleep(1)
            found = detail(root)
            if "neck.p3=new" in found["note"]["body"] and "neck.p3=new" in picture(found):
                break
        assert f"| {new.number} | 0.9900 |" in found["note"]["body"], "not refreshed within a minute"
        assert "neck.p3=new\\|\\`block\\`" in found["note"]["body"], "a bar would end the table's cell"
        assert "neck.p3=new|`block`" in picture(found)
        assert names_of(new) == set(files(found["trials"][new.number]))
        for t in before:  # all of them left the front: what is on offer is of now
            assert f"{export.point_name(t)}.pt" not in files(found["trials"][t.number])
    wanted = {m for t in study.trials for m in board_files.own(t).values()} | {*board_files.stored(study).values()}
    assert {p.name for p in (copied.folder / "artifacts").iterdir()} == wanted, "nothing piles up"


def test_dressing_again_changes_nothing(copied: Searched) -> None:
    study, folder = dashboard.find("first", None, str(copied.output))
    dashboard.dress(study, folder)
    first = {p.name: p.read_bytes() for p in (folder / "artifacts").iterdir()}
    attrs = study._storage.get_study_system_attrs(study._study_id)
    dashboard.dress(study, folder)
    assert {p.name: p.read_bytes() for p in (folder / "artifacts").iterdir()} == first and first
    assert study._storage.get_study_system_attrs(study._study_id) == attrs


def test_what_a_person_wrote_or_uploaded_stays(copied: Searched, tmp_path: Path) -> None:
    study, folder = dashboard.find("first", None, str(copied.output))
    optuna_dashboard.save_note(study, "My words.")
    (tmp_path / "mine.csv").write_text("a\n")
    board_files.upload(study, tmp_path / "mine.csv", board_files.artifact_store(folder))
    for _ in range(2):
        dashboard.dress(study, folder)
        note = optuna_dashboard.get_note(study)
        assert note.startswith("# first") and note.endswith("My words.") and note.count("My words.") == 1
    assert {a["filename"] for a in list_study_artifacts(study._storage.get_study_system_attrs(study._study_id))} == {
        "mine.csv",
        "curves.csv",
    }


def test_what_a_trial_was_given_while_it_ran_is_not_stored_twice(copied: Searched) -> None:
    study, folder = dashboard.find("first", None, str(copied.output))
    trial, old = study.ask(), export.front_trials(study)[0]
    for key, value in (copy.deepcopy(old.user_attrs) | {"placement_id": "d" * 10}).items():
        trial.set_user_attr(key, value)
    board_files.of_trial(trial, "backbone: []\n", folder)
    study.tell(trial, [1.0, 0.1, 0.001])
    name = f"trial-{trial.number}-{'d' * 10}"
    done = study.trials[trial.number]
    assert set(board_files.own(done)) == {f"{name}.yaml", f"{name}.csv"}
    dashboard.dress(study, folder)
    given = {n for owner, n in board_files.stored(study) if owner == done._trial_id}
    assert given == {f"{name}.json", f"{name}.md"}, "no weights were kept, the rest was there"
    note = optuna_dashboard.get_note(study)
    assert f"{board_files.own(done)[f'{name}.yaml']}) [md](" in note


def test_an_artifact_that_was_deleted_in_the_browser_comes_back(copied: Searched) -> None:
    study, folder = dashboard.find("first", None, str(copied.output))
    store = dashboard.dress(study, folder)
    have = board_files.stored(study)
    key = next(iter(have))
    board_files.remove(study, key[0], have[key], store)
    assert key not in board_files.stored(study)
    dashboard.dress(study, folder)
    assert board_files.stored(study).keys() == have.keys()


def test_the_picture_draws_paused_and_refused_trials(copied: Searched) -> None:
    study, folder = dashboard.find("first", None, str(copied.output))
    done = study.trials[-1]
    paused = copy.deepcopy(done.user_attrs) | {"placement_id": "a" * 10, "rung": 1, "rungs": 2}
    refused = {k: v for k, v in done.user_attrs.items() if k != "score"}
    refused |= {"placement_id": "b" * 10, "infeasible": "9 GFLOPs <b>"}
    unknown = {"label": "x", "placement_id": "c" * 10, "placement": {}, "infeasible": "too large"}
    for attrs in (paused, refused, unknown):
        study.add_trial(create_trial(state=TrialState.PRUNED, user_attrs=attrs))
    figure = report.pareto_figure(study)
    groups = {t.name: t for t in figure.data if t.xaxis == "x"}
    assert [*groups][:2] == [report.BEYOND, report.PAUSED]
    (score,), (edge,) = groups[report.PAUSED].y, groups[report.BEYOND].y
    assert score == done.user_attrs["score"]["value"] and edge < min(t.values[0] for t in study.trials if t.values)
    assert groups[report.BEYOND].x == (done.user_attrs["cost"]["latency"]["ratio"],)
    assert groups[report.PAUSED].marker.symbol == "circle-open"
    assert "&lt;b&gt;" in groups[report.BEYOND].text[0] and "paused at rung 1 of 2" in groups[report.PAUSED].text[0]
    assert "val" in figure.layout.yaxis.title.text and figure.layout.xaxis2.title.text == "GFLOPs"
    assert dashboard.dress(study, folder)


def test_a_verdict_takes_the_place_of_the_caveat(copied: Searched) -> None:
    study, folder = dashboard.find("first", None, str(copied.output))
    entries = (
        Entry(BASE, "0", {}, "base", 1, 1.0, latency=Interval(1, 1, 1)),
        Entry(CANDIDATE, "1", {}, "neck.p3=a|b", 1, 1.0, gain=Interval(0.02, 0.01, 0.03)),
        Entry(RANDOM, "2", {}, "neck.p3=c", 1, 1.0, reason="no memory | left"),
    )
    found = Outcome(
        "mAP50-95", "test", "val", 4, "one2many", 1, (1, 2), 0.01, GAIN, ("a_b gains *2* points.",), entries, {},
        "python -m nas finalists first", "y", {},
    )  # fmt: skip
    study.set_user_attr(ATTRIBUTE, found.to_json())
    dashboard.dress(study, folder)
    note = optuna_dashboard.get_note(study)
    assert r"**a\_b gains \*2\* points.**" in note and "no findings" not in note
    assert r"| neck.p3=a\|b | +2.0 ± 1.0 | - | - | - |" in note
    assert r"| neck.p3=c (random placement) | no memory \| left |" in note and "2 seeds each, 1 epoch" in note
    assert "a_b gains *2* points." in report.pareto_figure(study).layout.title.text


def test_words_from_outside_are_shown_letter_by_letter() -> None:
    assert report.plain("a|b `c` <i>_d_\n[e](f)") == r"a\|b \`c\` \<i\>\_d\_ \[e\](f)"
    assert [report.code(x) for x in ("a", "a`b", "``")] == ["`a`", "`` a`b ``", "``` `` ```"]
    attrs = {"placement": {"neck.p3": "x`y"}, "label": "x", "infeasible": "9 | 8", "error": "<b>"}
    assert report.trial_note(attrs) == (
        "- `neck.p3`: `` x`y ``\n\nBeyond a limit, not trained: 9 \\| 8\n\nFailed: \\<b\\>"
    )


@pytest.mark.parametrize(
    ("host", "safe"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("192.168.1.4", False),
        ("box", False),
    ],
)
def test_only_the_loopback_is_safe(host: str, safe: bool) -> None:
    assert dashboard.is_loopback(host) is safe
