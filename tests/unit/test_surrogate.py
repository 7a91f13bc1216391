"""The model of the score: it finds what is there, borrows between kin, and knows what it does not know."""

from __future__ import annotations

import numpy as np
import pytest

from nas.surrogate import Kin, Seen, believe, walk
from search_spaces import Block, Placement

SITES = ("a", "b", "c")
BLOCKS = ("eca", "se", "cot", "sk", "mhsa")
FAMILY = {"eca": "channel", "se": "channel", "cot": "kernel", "sk": "kernel", "mhsa": "quadratic"}
EVEN = Kin(FAMILY.__getitem__, lambda site, block: 1.0)
PLACEMENTS = [
    Placement.of({s: b, t: c}) for i, s in enumerate(SITES) for t in SITES[:i] for b in BLOCKS for c in BLOCKS
]
SINGLE = [Placement.of({s: b}) for s in SITES for b in BLOCKS]


def truth(p: Placement) -> float:
    """Sites differ, blocks differ, and their product is what counts."""
    at, of = {"a": 0.0, "b": 0.02, "c": 0.06}, {"eca": 0.0, "se": 0.1, "cot": 0.7, "sk": 0.5, "mhsa": 1.0}
    return sum(at[s] * of[b.label] for s, b in p)


def seen(count: int, noise: float, seed: int = 0, rungs: int = 1) -> list[Seen]:
    """The base and that many placements; at rung k of n the share k/n of the gain is there."""
    rng = np.random.default_rng(seed)
    chosen = [Placement(), *(PLACEMENTS[i] for i in rng.permutation(len(PLACEMENTS))[:count])]
    steps = np.arange(1, rungs + 1) / rungs
    return [Seen(p, tuple(0.6 + truth(p) * steps + np.cumsum(noise * rng.standard_normal(rungs)))) for p in chosen]


def test_what_was_left_out_is_ranked() -> None:
    data = seen(30, 0.003)
    tried = {s.placement.id for s in data}
    rest = [p for p in PLACEMENTS if p.id not in tried]
    mean, sd = believe(data, rest, EVEN, 1)
    true = np.array([truth(p) for p in rest])
    assert np.corrcoef(mean, true)[0, 1] > 0.9
    assert 0.8 <= np.mean(np.abs(mean - true) < 2 * sd) <= 1.0


def test_nothing_seen_is_the_prior_and_more_blocks_are_less_certain() -> None:
    mean, sd = believe([], [SINGLE[0], PLACEMENTS[0]], EVEN, 1)
    assert np.all(mean == 0) and sd[1] > sd[0] > 0


def test_the_base_has_no_gain_and_a_level_of_the_seed_is_no_gain() -> None:
    data = [Seen(s.placement, tuple(v + 0.2 for v in s.values), 7) for s in seen(20, 0.002)]
    mean, sd = believe(data, [Placement()], EVEN, 1)
    assert mean[0] == 0 and sd[0] == 0
    both = [*data, *seen(20, 0.002, 1)]
    moved, _ = believe(both, PLACEMENTS, EVEN, 1)
    assert np.corrcoef(moved, [truth(p) for p in PLACEMENTS])[0, 1] > 0.9


def test_what_a_placement_showed_itself_counts_for_it_alone() -> None:
    data = seen(20, 0.002)
    lucky = PLACEMENTS[3]
    data = [s for s in data if s.placement != lucky] + [Seen(lucky, (0.6 + truth(lucky) + 0.05,))]
    (own, other), _ = believe(data, [lucky, PLACEMENTS[40]], EVEN, 1)
    (before,), _ = believe(data[:-1], [lucky], EVEN, 1)
    assert before < own < truth(lucky) + 0.05
    assert own - truth(lucky) > abs(other - truth(PLACEMENTS[40]))


def test_an_untried_block_borrows_from_its_family() -> None:
    few = [Placement.of({s: b}) for s in SITES for b in ("se", "cot", "mhsa")]
    gain = {"se": 0.0, "cot": 0.05, "mhsa": 0.0}
    data = [Seen(Placement(), (0.6,)), *(Seen(p, (0.6 + gain[next(iter(p))[1].label],)) for p in few)]
    (channel, kernel), _ = believe(data, [Placement.of({"b": "eca"}), Placement.of({"b": "sk"})], EVEN, 1)
    assert kernel > channel + 0.003


def test_where_costs_tell_an_untried_block_is_judged_by_its_cost() -> None:
    size = {"eca": 0.001, "se": 0.001, "cot": 0.8, "sk": 0.001, "mhsa": 1.0}
    kin = Kin(lambda label: label, lambda site, block: size[block.label])
    data = [Seen(Placement(), (0.6,)), Seen(Placement.of({"a": "cot"}), (0.63,))]
    _, (cheap, dear) = believe(data, [Placement.of({"b": "eca"}), Placement.of({"b": "mhsa"})], kin, 1)
    assert dear > 1.5 * cheap


def test_a_lower_rung_tells_of_the_top_and_leaves_its_last_step_open() -> None:
    data = seen(40, 0.002, rungs=2)
    half = [Seen(s.placement, s.values[:1]) for s in data[1:]]
    _, sd = believe([data[0], *half], PLACEMENTS, EVEN, 2)
    full, sure = believe(data, PLACEMENTS, EVEN, 2)
    steps, _ = walk([data[0], *half], PLACEMENTS, EVEN, 2)
    true = np.array([truth(p) for p in PLACEMENTS])
    assert np.corrcoef(steps[0], true)[0, 1] > 0.9 and np.corrcoef(full, true)[0, 1] > 0.9
    assert np.all(steps[1] == pytest.approx(0, abs=1e-9)) and sd.mean() > 2 * sure.mean()


def test_pairs_are_found_where_they_are() -> None:
    rng = np.random.default_rng(3)
    both = {frozenset((x, y)): rng.normal(0, 0.04) for x in BLOCKS for y in BLOCKS}
    value = lambda p: 0.6 + both[frozenset(b.label for _, b in p)]  # noqa: E731
    order = rng.permutation(len(PLACEMENTS))
    data = [Seen(Placement(), (0.6,)), *(Seen(PLACEMENTS[i], (value(PLACEMENTS[i]),)) for i in order[:50])]
    rest = [PLACEMENTS[i] for i in order[50:]]
    true = np.array([value(p) - 0.6 for p in rest])
    told = [np.corrcoef(believe(data, rest, EVEN, 1, pairs)[0], true)[0, 1] for pairs in (True, False)]
    assert told[0] > 0.5 and told[0] > told[1] + 0.5


def test_options_are_blocks_of_their_own() -> None:
    wide, narrow = Block("eca", (("kernel_size", 7),)), Block("eca", (("kernel_size", 3),))
    kin = Kin(lambda label: label.partition("(")[0], lambda site, block: 1.0)
    data = [
        Seen(Placement(), (0.6,)),
        *(Seen(Placement.of({s: wide}), (0.65,)) for s in SITES),
        *(Seen(Placement.of({s: narrow}), (0.6,)) for s in SITES),
    ]
    (seven, three), _ = believe(data, [Placement.of({"a": wide}), Placement.of({"a": narrow})], kin, 1)
    assert seven > three + 0.02
