"""How the public table is made: which trainings in which order, and a card whose every figure is the table's."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import REPO
from trainings_made import placements, train, world, write_table

from nas import jobs, table
from search_spaces import load

sys.path.insert(0, str(REPO / "scripts"))
import make_table
import protocol
import table_card


def test_every_placement_of_the_space_once_singles_first() -> None:
    space = load("neck")
    found = make_table.ordered(space)
    assert len(found) == len({p.id for p in found}) == space.size - 1
    assert [len(p) for p in found] == sorted(len(p) for p in found)
    assert found == make_table.ordered(space), "the same order every time, so that a table can grow"


def test_more_placements_extend_the_same_list() -> None:
    space = load("neck")
    few, many = (make_table.first_pass(space, 1, n, 10) for n in (100, 400))
    assert {j.key for j in few if j.seed == 0} <= {j.key for j in many}
    seeds = Counter(j.placement.id for j in many)
    assert sum(n == 3 for n in seeds.values()) >= 10 + 1 + len(make_table.PLACEBOS)
    assert set(seeds.values()) == {1, 3}
    assert len({j.key for j in many}) == len(many)


def test_the_best_are_trained_again_under_other_seeds(tmp_path: Path) -> None:
    space = load("neck")
    tried = make_table.ordered(space)[:30]
    file = tmp_path / "trials.csv"
    for i, placement in enumerate(tried):
        facts = {"placement_id": placement.id, "seed": 0, "placement": placement.label, "map50_95": i / 100}
        jobs.append(file, [facts | {"images": n} for n in (400, 800)], [*facts, "images"])
    again = make_table.second_pass(space, 2, file, best=5)
    assert {j.placement for j in again} == set(tried[-5:])
    assert {j.seed for j in again} == {1, 2}
    assert len(again) == 10


def test_the_card_says_what_the_table_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = write_table(tmp_path / "small", train(rng, world(rng, 0.03, 0.01), placements(rng, 30), 0.005, repeated=6))
    found = table.read(folder)
    text = table_card.card(found, folder)
    last = found.budgets[-1]
    assert f"{table.signal(found, last).ratio.value:.1f}" in text
    assert f"{table.agreement_across_seeds(found, found.budgets[0], last).value:.2f}" in text
    best = table.gains(found, last).mean(axis=1)
    assert sum(f"| {label} |" in text for label in best.index) >= 2 * table_card.ENDS
    assert "nan" not in text


def test_the_protocols_variants_can_be_run(tmp_path: Path) -> None:
    planned = {name: protocol.planned(variant) for name, variant in protocol.VARIANTS.items()}
    assert all(len({j.key for j in found}) == len(found) for found in planned.values())
    assert all("base" in {j.placement.label for j in found} for found in planned.values())
    assert len({p.placement.id for p in planned[protocol.LONG]}) >= 16
    for variant in protocol.VARIANTS.values():
        assert protocol.resolved(variant, tmp_path).modules[0].endswith("placebos.py")


@pytest.mark.parametrize("name", table.names() or [pytest.param("", marks=pytest.mark.skip("no table here"))])
def test_tables_that_come_with_the_project_can_be_read(name: str) -> None:
    found = table.read(name)
    assert len(found.placements) > 1
    text = (table.find(name) / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}: {len(found.placements)} placements"), "run python scripts/table_card.py"
