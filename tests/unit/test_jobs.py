"""Many trainings of one recipe: each once, kept as it ends, failures with their reason."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest

from nas import jobs, recipe, setting, warm
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


@pytest.fixture(scope="module")
def shared(tiny_recipe: recipe.Recipe) -> tuple[setting.Setting, warm.WarmBase]:
    """What all trainings share."""
    prepared = setting.prepare(tiny_recipe)
    prepared.folder.mkdir(parents=True, exist_ok=True)
    return prepared, warm.warm_base(prepared)


BASE, ECA = Placement(), Placement.of({"neck.p3": "eca"})


def test_each_is_trained_once_and_a_failure_has_its_reason(
    shared: tuple[setting.Setting, warm.WarmBase], tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    first = [jobs.Job(BASE, 0, 1, (0.5,)), jobs.Job(ECA, 0, 1, (0.5,))]
    assert len(list(jobs.run_all(*shared, first, file))) == 2
    rows = read(file)
    assert [(r["placement"], r["seed"], r["images"]) for r in rows] == [
        ("base", "0", "4"), ("base", "0", "8"), ("neck.p3=eca", "0", "4"), ("neck.p3=eca", "0", "8"),
    ]  # fmt: skip
    assert len({r["batches_sha"] for r in rows}) == len({r["recipe"] for r in rows}) == 1
    assert all(0 <= float(r["map50_95"]) <= 1 and float(r["val_loss"]) > 0 for r in rows)
    impossible = jobs.Job(Placement.of({"neck.p9": "eca"}), 0, 1, (0.5,))
    again = list(jobs.run_all(*shared, [*first, impossible], file))
    assert len(again) == 1, "the others are there"
    assert "neck.p9" in read(file)[-1]["reason"]
    assert jobs.missing(shared[0], [*first, impossible], file) == [impossible], "what failed is tried again"


def test_a_jobs_own_protocol_is_used_and_two_recipes_do_not_mix(
    shared: tuple[setting.Setting, warm.WarmBase], tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    list(jobs.run_all(*shared, [jobs.Job(ECA, 0, 1, (), Protocol(gamma=0.5))], file))
    assert float(read(file)[0]["gamma"]) == pytest.approx(0.5, abs=0.1)
    for other in (jobs.Job(ECA, 0, 1), jobs.Job(ECA, 0, 2, (), Protocol(gamma=0.5))):
        with pytest.raises(jobs.JobsError, match="another recipe"):
            list(jobs.run_all(*shared, [other], file))


def made(file: Path, prepared: setting.Setting, planned: list[jobs.Job]) -> None:
    """Rows as trainings would leave them."""
    for job in planned:
        score = SimpleNamespace(
            gamma={}, batches_sha="x", seconds={"total": 1.0},
            curve=[{"images": n, "value": 0.5, "nms_free": None, "loss": 1.0} for n in (4, 8)],
        )  # fmt: skip
        jobs.append(file, jobs.rows(prepared, job, score), jobs.columns(prepared))


@pytest.mark.parametrize("cut", [5, 60, 200, 10_000])
def test_a_crash_while_writing_costs_the_training_it_cut_and_no_other(
    cut: int, shared: tuple[setting.Setting, warm.WarmBase], tmp_path: Path
) -> None:
    prepared, file = shared[0], tmp_path / "rows.csv"
    planned = [jobs.Job(p, seed, 1, (0.5,)) for seed in (0, 1) for p in (BASE, ECA)]
    made(file, prepared, planned)
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut] if cut < len(whole) else b"")
    left = jobs.mend(prepared, planned, file)
    assert planned[-1] in left
    assert left == planned[-len(left) :]
    assert len(left) == 1 or cut > 60
    made(file, prepared, left)
    assert not jobs.missing(prepared, planned, file)
    assert {tuple(r) for r in read(file)} == {jobs.columns(prepared)}
