"""The model of the score: it finds what is there, borrows between kin, and knows what it does not know."""

from __future__ import annotations

import numpy as np
import pytest

from nas.surrogate import Belief, Kin, Priors, Seen, believe, curve
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


def told(belief: Belief) -> tuple[np.ndarray, np.ndarray]:
    return belief.mean, belief.sd


def test_what_was_left_out_is_ranked() -> None:
    data = seen(30, 0.003)
    tried = {s.placement.id for s in data}
    rest = [p for p in PLACEMENTS if p.id not in tried]
    mean, sd = told(believe(data, rest, EVEN))
    true = np.array([truth(p) for p in rest])
    assert np.corrcoef(mean, true)[0, 1] > 0.9
    assert 0.8 <= np.mean(np.abs(mean - true) < 2 * sd) <= 1.0


def test_nothing_seen_is_the_prior_and_more_blocks_are_less_certain() -> None:
    mean, sd = told(believe([], [SINGLE[0], PLACEMENTS[0]], EVEN))
    assert np.all(mean == 0) and sd[1] > sd[0] > 0


def test_the_base_has_no_gain_and_a_level_of_the_seed_is_no_gain() -> None:
    data = [Seen(s.placement, tuple(v + 0.2 for v in s.values), 7) for s in seen(20, 0.002)]
    mean, sd = told(believe(data, [Placement()], EVEN))
    assert mean[0] == 0 and sd[0] == 0
    both = [*data, *seen(20, 0.002, 1)]
    moved, _ = told(believe(both, PLACEMENTS, EVEN))
    assert np.corrcoef(moved, [truth(p) for p in PLACEMENTS])[0, 1] > 0.9


def test_what_a_placement_showed_itself_counts_for_it_alone() -> None:
    data = seen(20, 0.002)
    lucky = PLACEMENTS[3]
    data = [s for s in data if s.placement != lucky] + [Seen(lucky, (0.6 + truth(lucky) + 0.05,))]
    (own, other), _ = told(believe(data, [lucky, PLACEMENTS[40]], EVEN))
    (before,), _ = told(believe(data[:-1], [lucky], EVEN))
    assert before < own < truth(lucky) + 0.05
    assert own - truth(lucky) > abs(other - truth(PLACEMENTS[40]))


def test_an_untried_block_borrows_from_its_family() -> None:
    few = [Placement.of({s: b}) for s in SITES for b in ("se", "cot", "mhsa")]
    gain = {"se": 0.0, "cot": 0.05, "mhsa": 0.0}
    data = [Seen(Placement(), (0.6,)), *(Seen(p, (0.6 + gain[next(iter(p))[1].label],)) for p in few)]
    (channel, kernel), _ = told(believe(data, [Placement.of({"b": "eca"}), Placement.of({"b": "sk"})], EVEN))
    assert kernel > channel + 0.003


def test_where_costs_tell_an_untried_block_is_judged_by_its_cost() -> None:
    size = {"eca": 0.001, "se": 0.001, "cot": 0.8, "sk": 0.001, "mhsa": 1.0}
    kin = Kin(lambda label: label, lambda site, block: size[block.label])
    data = [Seen(Placement(), (0.6,)), Seen(Placement.of({"a": "cot"}), (0.63,))]
    _, (cheap, dear) = told(believe(data, [Placement.of({"b": "eca"}), Placement.of({"b": "mhsa"})], kin))
    assert dear > 1.5 * cheap


def test_a_lower_rung_tells_of_the_top_and_leaves_it_open() -> None:
    data = seen(40, 0.002, rungs=2)
    half = [data[0], *(Seen(s.placement, s.values[:1]) for s in data[1:])]
    early, open_ = told(believe(half, PLACEMENTS, EVEN, 2))
    full, sure = told(believe(data, PLACEMENTS, EVEN, 2))
    true = np.array([truth(p) for p in PLACEMENTS])
    assert np.corrcoef(early, true)[0, 1] > 0.9 and np.corrcoef(full, true)[0, 1] > 0.9
    assert open_.mean() > 1.5 * sure.mean()


def test_how_much_a_lower_rung_shows_is_learnt() -> None:
    """A gain of a tenth so far is a whole one where those that were trained on had ten times theirs."""
    rng = np.random.default_rng(0)
    order = [PLACEMENTS[i] for i in rng.permutation(len(PLACEMENTS))]
    late = lambda p, k: 0.6 + truth(p) * (0.1, 1.0)[k] + 0.001 * rng.standard_normal()  # noqa: E731
    data = [Seen(Placement(), (0.6, 0.6))]
    data += [Seen(p, (late(p, 0), late(p, 1))) for p in order[:15]] + [Seen(p, (late(p, 0),)) for p in order[15:40]]
    mean = believe(data, order[15:40], EVEN, 2).mean
    assert np.abs(mean - [truth(p) for p in order[15:40]]).mean() < 0.02


def test_a_rung_that_is_not_known_is_none() -> None:
    data = seen(30, 0.002, rungs=2)
    top = [data[0], *(Seen(s.placement, (float("nan"), s.values[1])) for s in data[1:])]
    true = np.array([truth(p) for p in PLACEMENTS])
    assert np.corrcoef(believe(top, PLACEMENTS, EVEN, 2).mean, true)[0, 1] > 0.9


def test_two_that_share_a_block_share_its_uncertainty() -> None:
    data = seen(6, 0.002)
    tried = data[1].placement
    (site, block), *_ = tried
    other = next(p for p in PLACEMENTS if p.get(site) == block and p != tried)
    apart = next(p for p in PLACEMENTS if not set(dict(p)) & {site})
    belief = believe(data, [tried, other, apart], EVEN, shared=1)
    view = belief.views[0]
    assert view.shared.shape == (3, 1)
    assert view.shared[0, 0] == pytest.approx(view.sd[0] ** 2)
    assert abs(view.shared[1, 0]) <= view.sd[0] * view.sd[1] * (1 + 1e-9)


def test_many_scores_are_read_in_time() -> None:
    """Settings are weighed by some of them, and what is believed is of all."""
    rng = np.random.default_rng(0)
    many = [
        Placement.of({s: b, t: c, "d": d})
        for s in SITES
        for t in SITES
        if s < t
        for b in BLOCKS
        for c in BLOCKS
        for d in BLOCKS
    ]
    data = [Seen(Placement(), (0.6,)), *(Seen(p, (0.6 + truth_of(p) + 0.003 * rng.standard_normal(),)) for p in many)]
    mean = believe(data, many[:50], Kin(lambda label: label, lambda s, b: 1.0)).mean
    assert np.corrcoef(mean, [truth_of(p) for p in many[:50]])[0, 1] > 0.95


def truth_of(p: Placement) -> float:
    return truth(Placement.of({s: b.label for s, b in p if s != "d"}))


def test_the_curve_is_a_covariance() -> None:
    for reached in (0.1, 0.5, 1.0):
        c = curve(3, reached, 0.8)
        assert c[-1, -1] == 1 and np.allclose(c, c.T) and np.linalg.eigvalsh(c).min() > 0
        assert c[0, 0] == pytest.approx(reached**4)


def test_pairs_are_found_where_they_are() -> None:
    rng = np.random.default_rng(3)
    both = {frozenset((x, y)): rng.normal(0, 0.04) for x in BLOCKS for y in BLOCKS}
    value = lambda p: 0.6 + both[frozenset(b.label for _, b in p)]  # noqa: E731
    order = rng.permutation(len(PLACEMENTS))
    data = [Seen(Placement(), (0.6,)), *(Seen(PLACEMENTS[i], (value(PLACEMENTS[i]),)) for i in order[:50])]
    rest = [PLACEMENTS[i] for i in order[50:]]
    true = np.array([value(p) - 0.6 for p in rest])
    found = [np.corrcoef(believe(data, rest, EVEN, 1, Priors(pairs=p)).mean, true)[0, 1] for p in (True, False)]
    assert found[0] > 0.5 and found[0] > found[1] + 0.5


def test_options_are_blocks_of_their_own() -> None:
    wide, narrow = Block("eca", (("kernel_size", 7),)), Block("eca", (("kernel_size", 3),))
    kin = Kin(lambda label: label.partition("(")[0], lambda site, block: 1.0)
    data = [
        Seen(Placement(), (0.6,)),
        *(Seen(Placement.of({s: wide}), (0.65,)) for s in SITES),
        *(Seen(Placement.of({s: narrow}), (0.6,)) for s in SITES),
    ]
    (seven, three), _ = told(believe(data, [Placement.of({"a": wide}), Placement.of({"a": narrow})], kin))
    assert seven > three + 0.02
