"""Goes in: placements. Comes out: what each one's gain is the sum of, and what is assumed of it before any is seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from search_spaces import Block, Placement

Key = tuple[str, ...]
RELATIVE = {  # prior standard deviation of effects, by kind, over that of a block at a site
    "any": 0.5,
    "block": 1.0,
    "family": 0.7,
    "site": 1.0,
    "cell": 1.0,
    "family at site": 0.7,
    "sites": 0.7,
    "blocks": 0.7,
}
PAIRS = ("sites", "blocks")
SINGLES = 6  # parts of one block at its site; every two of them add PAIRS
DRAWN = 0.6  # share of the noise's variance that is there one rung below
LEAST_SIZE = 0.02
LEVEL = 1e4  # prior variance of a seed's level at a rung over the noise's
JITTER = 1e-6  # variance over the noise's that keeps matrices sound


@dataclass(frozen=True)
class Priors:
    """What is assumed of a figure before any is seen.

    Args:
        noise: Its standard deviation; as sure as ``doubt`` times two trainings would make it.
        signal: Standard deviations of a block's effect at a site over the noise's, to choose from.
        tells: Powers of the expected size that effects grow with, to choose from, and how likely each is.
        own: Variance of what a placement has beside the sum of its parts, over the noise's.
        pairs: Whether two blocks may add something together beyond their sum.
    """

    noise: float = 0.005
    doubt: float = 5.0
    signal: tuple[float, ...] = (3.0, 10.0, 30.0)
    tells: tuple[tuple[float, float], ...] = ((0.0, 0.2), (1.0, 0.8))
    own: float = 0.1
    pairs: bool = True


SCORE = Priors()
LATENCY = Priors(noise=0.01, signal=(1.0, 3.0), tells=((0.0, 1.0),), own=0.2, pairs=False)


@dataclass(frozen=True)
class Seen:
    """A training.

    Args:
        placement: What was trained; the empty one is the base.
        values: Its score at each rung it reached, first rung first; nan where it is not known.
        seed: Trainings under one seed share its luck.
    """

    placement: Placement
    values: tuple[float, ...]
    seed: int = 0


@dataclass(frozen=True)
class Kin:
    """What is known of blocks before any training.

    Args:
        family: Of a block's label.
        size: How large the effect of a block at a site may be, over the largest in this space.
    """

    family: Callable[[str], str]
    size: Callable[[str, Block], float]


@dataclass(frozen=True)
class Setting:
    """One choice of all that is not known: see :data:`RELATIVE` and :class:`Priors`."""

    power: float
    signal: float
    curve: np.ndarray
    priors: Priors


@dataclass(frozen=True)
class Design:
    """Sparse design matrix of some placements: entry ``rows[k], columns[k]`` is the weight of cells first and second.

    The weight of an entry is the smaller of its two cells' sizes; an entry of one cell names it twice.
    """

    count: int
    kinds: tuple[str, ...]
    rows: np.ndarray
    columns: np.ndarray
    first: np.ndarray
    second: np.ndarray
    sizes: np.ndarray

    def matrix(self, power: float, paired: bool) -> tuple[np.ndarray, np.ndarray]:
        """[placements, columns] where effects grow with that power of the size, and the prior variance of columns."""
        w = np.clip(self.sizes**power, LEAST_SIZE, 1.0)
        z = np.zeros((self.count, len(self.kinds)))
        np.add.at(z, (self.rows, self.columns), np.minimum(w[self.first], w[self.second]))
        prior = np.array([RELATIVE[k] ** 2 * (paired or k not in PAIRS) for k in self.kinds])
        return z, prior


def design(placements: Sequence[Placement], kin: Kin) -> Design:
    """What each placement's gain is the sum of; columns in the order in which placements first have them."""
    cells: dict[tuple[str, Block], int] = {}
    filled = np.array([cells.setdefault(cell, len(cells)) for p in placements for cell in p], dtype=int)
    blocks = np.array([len(p) for p in placements], dtype=int)
    names = _Names.of(list(cells), kin)
    each = SINGLES * blocks + len(PAIRS) * (blocks * (blocks - 1) // 2)
    ends, begins = np.cumsum(each), np.cumsum(blocks) - blocks
    code, first, second = np.empty((3, int(each.sum())), dtype=int)
    for k in np.unique(blocks[blocks > 0]):
        rows = np.flatnonzero(blocks == k)
        here = filled[begins[rows][:, None] + np.arange(k)]
        i, j = np.triu_indices(k, 1)
        into = (ends[rows] - each[rows])[:, None] + np.arange(each[rows[0]])
        ones, twos = here[:, i].repeat(len(PAIRS), 1), here[:, j].repeat(len(PAIRS), 1)
        code[into] = np.c_[names.single[here].reshape(len(rows), -1), names.pair(ones, twos)]
        first[into] = np.c_[here.repeat(SINGLES, 1), ones]
        second[into] = np.c_[here.repeat(SINGLES, 1), twos]
    seen, inverse = np.unique(code, return_inverse=True)
    at = np.full(len(seen), len(code))
    np.minimum.at(at, inverse, np.arange(len(code)))
    order = np.argsort(at)
    sizes = np.array([kin.size(s, b) for s, b in cells])
    kinds = tuple(names.kind(c) for c in seen[order])
    return Design(
        len(blocks), kinds, np.arange(len(blocks)).repeat(each), np.argsort(order)[inverse], first, second, sizes
    )


@dataclass(frozen=True)
class _Names:
    """Numbers for the parts that placements of these cells, blocks at sites, can have.

    Args:
        single: [cells, SINGLES] of what one block at its site gives; ``kinds`` of these numbers.
        site, block: [cells] numbers of a cell's site and of its block's label; there are ``sites`` and ``labels``.
    """

    single: np.ndarray
    kinds: tuple[str, ...]
    site: np.ndarray
    block: np.ndarray
    sites: int
    labels: int

    @staticmethod
    def of(cells: Sequence[tuple[str, Block]], kin: Kin) -> _Names:
        """Number them."""
        keys: dict[Key, int] = {}
        sites: dict[str, int] = {}
        labels: dict[str, int] = {}
        single = []
        for site, block in cells:
            sites.setdefault(site, len(sites)), labels.setdefault(block.label, len(labels))
            single.append([keys.setdefault(key, len(keys)) for key in _parts(site, block.label, kin)])
        return _Names(
            np.array(single, dtype=int).reshape(-1, SINGLES),
            tuple(key[0] for key in keys),
            np.array([sites[s] for s, _ in cells], dtype=int),
            np.array([labels[b.label] for _, b in cells], dtype=int),
            len(sites),
            len(labels),
        )

    def pair(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        """Of two cells each [n, pairs x PAIRS]: their sites' number and their blocks', in turn."""
        sites = len(self.kinds) + self.site[one] * self.sites + self.site[two]
        a, b = self.block[one], self.block[two]
        blocks = len(self.kinds) + self.sites**2 + np.minimum(a, b) * self.labels + np.maximum(a, b)
        return np.where(np.arange(one.shape[1]) % len(PAIRS), blocks, sites)

    def kind(self, code: int) -> str:
        """Of a number."""
        if code < len(self.kinds):
            return self.kinds[code]
        return PAIRS[int(code >= len(self.kinds) + self.sites**2)]


def _parts(site: str, block: str, kin: Kin) -> Iterator[Key]:
    family = kin.family(block)
    yield from (("any",), ("block", block), ("family", family), ("site", site), ("cell", site, block))
    yield ("family at site", site, family)
