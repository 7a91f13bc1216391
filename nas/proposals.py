"""Goes in: what a study has tried, and costs that are known before training. Comes out: what is worth training next.

An Optuna sampler. It believes of every placement what nas/surrogate.py says of its score, knows its GFLOPs, expects its
latency from those of its blocks and from those measured so far, and takes what the front is expected to gain most by
for each image trained on: a placement that nobody has tried, or one more rung for one that was begun.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from nas import history, rungs
from nas.ehvi import ehvi, expected
from nas.history import Past
from nas.parts import LATENCY, Kin, Seen
from nas.surrogate import believe
from search_spaces import Placement, SearchSpace

ALL = 2000  # a space of at most so many placements is looked at whole
FRESH, AROUND = 800, 12  # beyond: so many drawn, and the neighbours of so many of the best
FLOOR = 0.05  # share of proposals that go where least is known, whatever is expected there
TIE, NOTHING = 0.01, 1e-12
WIDEST, BEYOND = 0.99, 0.1  # the reference of the hypervolume: a quantile of the costs of all, and a part of the range
NEAREST = 40  # members of the front, and those behind it, that a candidate is compared with


@dataclass(frozen=True)
class Known:
    """What is known before any training.

    Args:
        space: What may stand where.
        allowed: Whether a placement is within the limits.
        kin: Families of blocks, and how large their effects may be.
        gflops: Of a placement.
        latency: What a placement's latency over the base's is expected to be before anything is measured.
        objectives: Those of the recipe; the first is the score.
        rungs: How many a training has.
    """

    space: SearchSpace
    allowed: Callable[[Placement], bool]
    kin: Kin
    gflops: Callable[[Placement], float]
    latency: Callable[[Placement], float]
    objectives: tuple[str, ...]
    rungs: int


def kin_of(space: SearchSpace, family: Callable[[str], str], size: Callable[[str, Any], float]) -> Kin:
    """Kin of a space's blocks, their sizes over the largest of them all."""
    sizes = {(s, b): max(float(size(s, b)), 0.0) for s, blocks in space.sites for b in blocks}
    most = max(sizes.values(), default=0.0)
    return Kin(family, lambda site, block: sizes[site, block] / most if most > 0 else 1.0)


class EHVISampler(BaseSampler):
    """See the module. Every site is proposed at once; what it proposes is new and within the limits.

    Args:
        known: What is known before any training.
        seed: Of its draws.
    """

    def __init__(self, known: Known, seed: int) -> None:
        self.known, self.rng = known, np.random.default_rng(seed)
        self.ahead: tuple[object, Past | Placement | None] = (None, None)
        self.expected: dict[str, float] = {}  # latency of what was measured, as it was expected before
        self.whole = [p for p in known.space.placements() if len(p)] if known.space.size <= ALL else None

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All sites, always."""
        return {s: CategoricalDistribution(self.known.space.choices(s)) for s, _ in self.known.space.sites}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The placement that is worth most of those that nobody has tried; nothing where there is none."""
        pasts = [p for p in history.read(study, self.known.space) if p.trial != trial.number]
        known, best = self.ahead  # who asked whether somebody goes on has found this already
        if known != _state(pasts) or not isinstance(best, Placement):
            best = self.look(pasts, room=True, go_on=False)
        return dict(self.known.space.params(best)) if isinstance(best, Placement) else {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Where nothing is proposed: any block."""
        options = self.known.space.choices(param_name)
        return options[self.rng.integers(len(options))]

    def go_on(self, pasts: Sequence[Past], room: bool) -> Past | None:
        """Who is to be trained on rather than something new (where there is ``room`` for it); None for the latter."""
        found = self.look(pasts, room, go_on=True)
        self.ahead = (_state(pasts), found)
        return found if isinstance(found, Past) else None

    def look(self, pasts: Sequence[Past], room: bool, go_on: bool) -> Past | Placement | None:
        """The next step of which the most hypervolume is expected for each image that is left to train on.

        Without ``room`` for new placements the search comes to its end: who waits goes on only if what is believed of
        it lies beyond the front.
        """
        waiting = [p for p in pasts if p.state == history.PAUSED] if go_on else []
        fresh = self.pool(pasts) if room else []
        if not waiting and not fresh:
            return None
        done = self.nearest([p for p in pasts if p.state == history.DONE and p.cost])
        seen, n, w = self.seen(pasts), len(done), len(waiting)
        asked = [*(p.placement for p in done), *(p.placement for p in waiting), *fresh]
        belief = believe(seen, asked, self.known.kin, self.known.rungs, shared=n)
        costs = self.costs(pasts, asked)
        reference = self.reference(costs)
        if room and fresh and self.rng.random() < FLOOR:
            return fresh[int(np.argmax(belief.sd[n + w :]))]
        if not room:  # the last ones: who is believed to lie beyond the front, surprises left aside
            mean = belief.mean
            gain = ehvi(mean[n:], 0.0 * mean[n:], costs[n:], mean[:n], costs[:n], reference)
            best = int(np.argmax(gain))
            return waiting[best] if gain[best] > NOTHING else None
        share = rungs.shares(self.known.rungs)
        left = np.array([1 - share[len(p.values) - 1] for p in waiting] + [1.0] * len(fresh))
        worth = expected(belief, n, costs, reference, self.rng) / left
        best = int(np.argmax(worth * np.exp(TIE * self.rng.standard_normal(len(worth)))))
        return waiting[best] if best < w else fresh[best - w]

    def nearest(self, done: Sequence[Past]) -> list[Past]:
        """Those on the front, then those behind it, as many as a candidate is compared with."""
        columns = {"gflops": lambda p: p.gflops, "latency": lambda p: p.latency or float("nan")}
        values = [(p.values[-1], *(columns[name](p) for name in self.known.objectives[1:])) for p in done]
        directions = ("maximize", *["minimize"] * (len(self.known.objectives) - 1))
        return [done[i] for i in rungs.ranked(values, directions, NEAREST)]

    def pool(self, pasts: Sequence[Past]) -> list[Placement]:
        """Placements to choose from that nobody has tried: all, or the neighbours of the best and many drawn ones."""
        space, taken = self.known.space, {p.placement.id for p in pasts}
        if self.whole is not None:
            return [p for p in self.whole if p.id not in taken and self.known.allowed(p)]
        best = sorted((p for p in pasts if p.values), key=lambda p: (-len(p.values), -p.values[-1]))[:AROUND]
        found = {q.id: q for p in best for q in space.neighbours(p.placement) if len(q)}
        for _ in range(FRESH):
            count = int(self.rng.integers(1, space.max_blocks + 1))
            sites = [space.sites[i] for i in self.rng.permutation(len(space.sites))[:count]]
            one = Placement.of({s: blocks[self.rng.integers(len(blocks))] for s, blocks in sites if blocks})
            found.setdefault(one.id, one)
        return [p for key, p in found.items() if len(p) and key not in taken and self.known.allowed(p)]

    def seen(self, pasts: Sequence[Past]) -> list[Seen]:
        """All scores so far; what trains now counts as if it would end as believed (Ginsbourger et al. 2010)."""
        real = [Seen(p.placement, p.values[: self.known.rungs], p.seed or 0) for p in pasts if p.values]
        base = next((s for s in real if not len(s.placement)), None)
        running = [p for p in pasts if p.state == history.RUNNING and len(p.placement)]
        if not running or base is None or len(base.values) < self.known.rungs:
            return real
        gains = believe(real, [p.placement for p in running], self.known.kin, self.known.rungs).mean
        dreamt = []
        for p, gain in zip(running, gains, strict=True):
            between = (float("nan"),) * (self.known.rungs - 1 - len(p.values))
            dreamt.append(Seen(p.placement, (*p.values, *between, base.values[-1] + float(gain)), base.seed))
        names = {p.placement.id for p in running}
        return [s for s in real if s.placement.id not in names] + dreamt

    def costs(self, pasts: Sequence[Past], asked: Sequence[Placement]) -> np.ndarray:
        """[asked, costs]: GFLOPs as they are, latency as measured or, before that, as expected."""
        columns = {"gflops": lambda: np.array([self.known.gflops(p) for p in asked])}
        columns["latency"] = lambda: self.latency(pasts, asked)
        return np.stack([columns[name]() for name in self.known.objectives[1:]], axis=1)

    def latency(self, pasts: Sequence[Past], asked: Sequence[Placement]) -> np.ndarray:
        """Latency over the base's: as expected, corrected by all that was measured.

        The correction is the same additive model as for the score: blocks borrow from their kin, and a single
        measurement, which is noisy too, counts in part.
        """
        measured = [(p.placement, p.latency) for p in pasts if p.cost and p.latency is not None]
        for p, _ in measured:
            if p.id not in self.expected:
                self.expected[p.id] = self.known.latency(p)
        over = [Seen(p, (ratio - self.expected[p.id],)) for p, ratio in measured]
        more = believe(over, asked, self.known.kin, priors=LATENCY).mean
        return np.array([self.known.latency(p) + m for p, m in zip(asked, more, strict=True)])

    def reference(self, costs: np.ndarray) -> np.ndarray:
        """Costs that hypervolume is counted from: what is dearer is seldom wanted."""
        dear, cheap = np.quantile(costs, WIDEST, axis=0), costs.min(0)
        return np.asarray(dear + BEYOND * (dear - cheap) + 1e-9)

    def reseed_rng(self) -> None:
        """For another process."""
        self.rng = np.random.default_rng()


def _state(pasts: Sequence[Past]) -> tuple[tuple[str, str, int], ...]:
    """All that a proposal depends on, but for its draws."""
    return tuple((p.placement.id, p.state, len(p.values)) for p in pasts)
