"""Many trainings of one recipe: each once, kept as it ends, failures with their reason."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from conftest import run_python

from nas import jobs, recipe
from nas.protocol import Protocol
from search_spaces import Placement


@pytest.fixture(scope="module")
def tiny_recipe(
    tiny_data: Path, tiny_base: Path, tiny_space: Path, tmp_path_factory: pytest.TempPathFactory
) -> recipe.Recipe:
    """Everything small, from scratch."""
    folder = tmp_path_factory.mktemp("trainings")
    train = {"imgsz": 64, "batch": 4, "workers": 0, "device": "cpu", "lrf": 1.0}
    values = {
        "data": str(tiny_data), "base": str(tiny_base), "weights": "none", "space": str(tiny_space), "warm_epochs": 0,
        "latency_runs": 3, "output": str(folder), "name": "t", "train": train,
    }  # fmt: skip
    return recipe.read(None, values)


def read(file: Path) -> list[dict[str, str]]:
    """Rows of a CSV."""
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def test_each_is_trained_once_and_a_failure_has_its_reason(tiny_recipe: recipe.Recipe, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    base, eca = Placement(), Placement.of({"neck.p3": "eca"})
    first = [jobs.Job(base, 0, 1, (0.5,)), jobs.Job(eca, 0, 1, (0.5,))]
    got = list(jobs.run_all(tiny_recipe, first, file))
    assert len(got) == 2
    rows = read(file)
    assert [(r["placement"], r["seed"], r["images"]) for r in rows] == [
        ("base", "0", "4"), ("base", "0", "8"), ("neck.p3=eca", "0", "4"), ("neck.p3=eca", "0", "8"),
    ]  # fmt: skip
    assert len({r["batches_sha"] for r in rows}) == 1
    assert all(0 <= float(r["map50_95"]) <= 1 and float(r["val_loss"]) > 0 for r in rows)
    impossible = jobs.Job(Placement.of({"neck.p9": "eca"}), 0, 1)
    again = list(jobs.run_all(tiny_recipe, [*first, impossible], file))
    assert len(again) == 1, "the others are there"
    assert "neck.p9" in read(file)[-1]["reason"]
    assert not list(jobs.run_all(tiny_recipe, [*first, impossible], file))


def test_a_jobs_own_protocol_is_used(tiny_recipe: recipe.Recipe, tmp_path: Path) -> None:
    job = jobs.Job(Placement.of({"neck.p3": "eca"}), 0, 1, (), Protocol(gamma=0.5))
    list(jobs.run_all(tiny_recipe, [job], tmp_path / "rows.csv"))
    assert float(read(tmp_path / "rows.csv")[0]["gamma"]) == pytest.approx(0.5, abs=0.1)


def test_workers_end_with_whoever_started_them() -> None:
    code = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", '''
import multiprocessing, time
from nas import jobs
def work(pid):
    jobs.end_with(pid)
    time.sleep(60)
if __name__ == "__main__":
    p = multiprocessing.get_context("fork").Process(target=work, args=(multiprocessing.process.os.getpid(),))
    p.start()
    print(p.pid, flush=True)
    time.sleep(60)
'''], stdout=subprocess.PIPE, text=True)
pid = int(child.stdout.readline())
child.kill(); child.wait()
for _ in range(100):
    try:
        state = open(f"/proc/{pid}/stat").read().split()[2]
    except FileNotFoundError:
        state = "gone"
    if state in ("gone", "Z"):
        break
    time.sleep(0.1)
print("ended" if state in ("gone", "Z") else "left")
"""
    assert "ended" in run_python(code)
