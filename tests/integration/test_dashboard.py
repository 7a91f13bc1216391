"""The dashboard on a finished study: it answers, and has notes, metric names and files to download."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from typing import Any

import pytest
from conftest import Searched
from integration_support import start

from nas import dashboard, export


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


def test_the_dashboard_shows_the_study(copied: Searched) -> None:
    port = free_port()
    root = f"http://127.0.0.1:{port}"
    process = start("dashboard", "first", "--output", copied.output, "--port", port, cwd=copied.output)
    try:
        listed: Any = None
        for _ in range(240):
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            try:
                listed = json.loads(get(f"{root}/api/studies"))
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.25)
        assert listed is not None, "no answer within a minute"
        (entry,) = listed["study_summaries"]
        assert entry["study_name"] == "first"
        number = entry["study_id"]
        detail = json.loads(get(f"{root}/api/studies/{number}?after=0"))
        assert detail["objective_names"] == ["mAP50-95", "latency (x base)", "GFLOPs"]
        assert "# first" in detail["note"]["body"]
        assert len(detail["trials"]) == 4
        assert all("mAP50-95" in t["note"]["body"] for t in detail["trials"])
        assert detail["plotly_graph_objects"]
        for trial in copied.study.trials:
            shown = detail["trials"][trial.number]
            (file,) = shown["artifacts"]
            assert file["filename"] == f"{export.point_name(trial)}.yaml"
            assert b"backbone:" in get(f"{root}/artifacts/{number}/{shown['trial_id']}/{file['artifact_id']}")
        files = {a["filename"]: a["artifact_id"] for a in detail["artifacts"]}
        points = [export.point_name(t) for t in export.front_trials(copied.study)]
        assert set(files) == {name + end for name in points for end in (".yaml", ".json", ".pt")}
        for name in points:
            card = json.loads(get(f"{root}/artifacts/{number}/{files[f'{name}.json']}"))
            assert name == f"trial-{card['trial']}-{card['placement_id']}"
    finally:
        process.terminate()
        process.wait(30)


def test_dressing_again_changes_nothing(copied: Searched) -> None:
    study, folder = dashboard.find("first", None, str(copied.output))
    dashboard.dress(study, folder)
    first = sorted(p.name for p in (folder / "artifacts").iterdir())
    dashboard.dress(study, folder)
    assert sorted(p.name for p in (folder / "artifacts").iterdir()) == first
    assert first


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
