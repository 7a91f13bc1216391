"""The replay of searches: images are counted once, luck stays the same, and what is told is not the truth."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import bench_search
import landscapes

from search_spaces import Placement


@pytest.fixture(scope="module")
def table() -> landscapes.Land:
    return landscapes.land("table", "latency", 1.0)


def test_a_placement_that_goes_on_pays_for_the_rest_only(table: landscapes.Land) -> None:
    replay, p = bench_search.Replay(table, 2, 0), Placement.of({"neck.p3": "mhsa"})
    first = replay.train(p, 0, 1)
    assert replay.used == table.images[0] and not replay.ended
    both = replay.train(p, 1, 2)
    assert replay.used == table.images[1] and both[0] == first[0] and len(both) == 2
    assert replay.told.images == [table.images[1]] and replay.told.true[0] > 0


def test_what_is_told_has_the_noise_of_one_training(table: landscapes.Land) -> None:
    p = Placement.of({"neck.p3": "mhsa"})
    told = np.array([bench_search.Replay(table, 2, seed).score(p) for seed in range(300)])
    truth = table.truth(p)
    assert truth is not None
    assert told.mean(0) == pytest.approx(truth, abs=4 * table.noise.max() / 300**0.5)
    assert told.std(0) == pytest.approx(table.noise, rel=0.2)
    quiet = landscapes.land("table", "latency", 0.0)
    assert bench_search.Replay(quiet, 2, 0).score(p) == pytest.approx(truth)


@pytest.mark.parametrize("name", landscapes.NAMES)
def test_blind_promises_are_the_same_ones_elsewhere(name: str) -> None:
    seeing, blind = landscapes.land(name, "latency", 1.0), landscapes.land(name, "latency", 1.0, True)
    cells = [(s, b) for s, blocks in seeing.space.sites for b in blocks]
    one, two = ([land.promise(*cell) for cell in cells] for land in (seeing, blind))
    if name == "table":
        assert sorted(one) == pytest.approx(sorted(two))
    assert one != two and blind.base == seeing.base


@pytest.mark.parametrize("name", [bench_search.OURS, bench_search.STOCK, "tpe, halving", bench_search.SYNE])
def test_a_search_is_replayed_to_its_last_image(name: str, table: landscapes.Land) -> None:
    if name == bench_search.SYNE:
        pytest.importorskip("syne_tune")
    told = bench_search.search(table, name, 0, 4)
    assert told.images == sorted(told.images) and told.images[-1] <= 5 * table.images[-1] + table.looked
    first = table.images[-1] + (table.looked if name == bench_search.OURS else 0)
    assert told.images[0] == first, "the base comes first, whole, and our first look before it"
    assert told.true == sorted(told.true) and all(r <= t + 1e-12 for r, t in zip(told.reported, told.true, strict=True))


def test_images_until_a_level_is_reached() -> None:
    told = bench_search.Told([800, 1600, 2400], [0.0, 0.5, 0.9], [0.0, 0.4, 0.4], [0.0] * 3, [])
    assert bench_search.until(told, 0.5, 9e9) == 1600 and bench_search.until(told, 1.0, 9e9) == 9e9
    assert bench_search.until(told, 0.5, 9e9, "reported") == 9e9
    assert bench_search.after(told, 1700) == 0.5 and bench_search.after(told, 100) == 0.0
    assert np.isnan(bench_search.after(told, 9000)), "it was stopped before"
