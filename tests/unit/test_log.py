"""The log never grows much beyond its limit, several processes add to it, and nothing is lost but the oldest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO, run_python

from nas import log

WRITES = """
import sys
from pathlib import Path
from nas import log
log.LIMIT, log.FILES, name = 3000, 1000, sys.argv[2]
for i in range(200):
    with log.opened(Path(sys.argv[1])) as file:
        for k in range(5):
            print(name, 5 * i + k, "x" * 20, file=file)
"""
PRINTS = """
import os, sys
from pathlib import Path
from nas import log
log.LIMIT = 1000
for i in range(int(sys.argv[2])):
    with log.opened(Path(sys.argv[1])) as file:
        print("of training", i, "y" * 400, file=file)
    os.write(2, b"by itself %d\\n" % i)
"""


FIRST = "a new file; older lines are in those with a number, the oldest in log."


def lines(folder: Path) -> list[str]:
    """All lines that there are, the oldest first, without those that the change to a new file adds."""
    files = sorted(folder.glob("log.*.txt"), key=lambda p: -int(p.name.split(".")[1]))
    text = [line for file in [*files, folder / "log.txt"] for line in file.read_text().splitlines()]
    return [line for line in text if not line.startswith(FIRST)]


def add(file: Path, text: str) -> None:
    """As one training does."""
    with log.opened(file) as out:
        print(text, file=out)


def test_a_full_log_is_put_aside_and_the_oldest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LIMIT", 130)
    file = tmp_path / "study" / "log.txt"
    for name in "abcdef":
        add(file, name * 60)
    there = {p.name: p.read_text().splitlines() for p in file.parent.glob("log*")}
    assert there == {
        "log.txt": [f"{FIRST}2.txt", "f" * 60],
        "log.1.txt": [f"{FIRST}2.txt", "e" * 60],
        "log.2.txt": [f"{FIRST}2.txt", "d" * 60],
    }


def test_below_the_limit_there_is_one_file_and_nothing_beside_it(tmp_path: Path) -> None:
    for i in range(5):
        add(tmp_path / "log.txt", str(i))
    assert [p.name for p in tmp_path.iterdir()] == ["log.txt"]
    assert lines(tmp_path) == list("01234")


def test_who_has_it_open_goes_on_in_the_one_that_was_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LIMIT", 10)
    with log.opened(tmp_path / "log.txt") as mine:
        print("before, and long", file=mine)
        add(tmp_path / "log.txt", "another's")
        print("after", file=mine)
    assert (tmp_path / "log.1.txt").read_text().splitlines() == ["before, and long", "after"]
    assert (tmp_path / "log.txt").read_text().splitlines()[1:] == ["another's"]


def test_two_processes_lose_no_line(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    command = [sys.executable, "-c", WRITES, str(tmp_path / "log.txt")]
    processes = [subprocess.Popen([*command, name], env=env) for name in "ab"]
    assert [p.wait(timeout=240) for p in processes] == [0, 0]
    found = lines(tmp_path)
    for name in "ab":
        assert sorted(int(x.split()[1]) for x in found if x.startswith(name)) == list(range(1000))
    assert all(x.split()[2:] == ["x" * 20] for x in found), "whole lines"
    sizes = [p.stat().st_size for p in tmp_path.glob("log*.txt")]
    assert len(sizes) > 10
    assert max(sizes) < 3000 + 2 * 5 * 40, "the limit, and what both add before they look again"


def test_what_a_process_prints_by_itself_follows(tmp_path: Path) -> None:
    with (tmp_path / "log.txt").open("ab") as errors:
        subprocess.run(
            [sys.executable, "-c", PRINTS, str(tmp_path / "log.txt"), "20"],
            env={**os.environ, "PYTHONPATH": str(REPO)}, stderr=errors, check=True, timeout=120,
        )  # fmt: skip
    assert len(list(tmp_path.glob("log*.txt"))) == log.FILES
    assert (tmp_path / "log.txt").read_text().splitlines()[-1] == "by itself 19"
    said = [x for x in lines(tmp_path) if x.startswith("by itself")]
    assert said == [f"by itself {i}" for i in range(20 - len(said), 20)]
    assert all(p.stat().st_size < 2000 for p in tmp_path.glob("log*.txt"))


def test_streams_that_lead_elsewhere_stay(tmp_path: Path) -> None:
    out = run_python(PRINTS.replace("os.write(2", "os.write(1"), tmp_path / "log.txt", 10)
    assert out.splitlines() == [f"by itself {i}" for i in range(10)]


def test_a_log_that_cannot_be_put_aside_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("in use")

    monkeypatch.setattr(log, "LIMIT", 10)
    monkeypatch.setattr(Path, "replace", refuse)
    for i in range(3):
        add(tmp_path / "log.txt", f"a long line {i}")
    assert lines(tmp_path) == [f"a long line {i}" for i in range(3)]


def test_a_progress_bar_is_drawn_once_a_minute_and_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics.utils.tqdm import TQDM

    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr("time.time", lambda: now)
    with log.opened(tmp_path / "log.txt") as file:
        for _ in TQDM(range(300), desc="epoch", file=file, disable=False):
            now += 0.5  # 150 s: a frame twice a second
        print("next", file=file)
    found = lines(tmp_path)
    assert [line.split("%")[0] for line in found] == ["epoch: 40", "epoch: 80", "epoch: 100", "next"]
