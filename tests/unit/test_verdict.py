"""The final comparison: moderated variances, intervals that hold all at once, fronts, and seeds that would tell."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from nas import verdict
from nas.interval import Interval
from nas.verdict import Noise


def drawn(rng: np.random.Generator, true: list[float], sd: float | np.ndarray, seeds: int) -> np.ndarray:
    return np.array(true)[:, None] + np.reshape(sd, (-1, 1)) * rng.standard_normal((len(true), seeds))


def half(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


def flat(count: int, variance: float = 1e-6, df: float = 20.0) -> Noise:
    return Noise(np.full(count, variance), np.full(count, df))


def test_gains_are_over_the_base_under_the_same_seed() -> None:
    assert verdict.paired([[0.5, 0.7]], [0.4, 0.65]) == pytest.approx(np.array([[0.1, 0.05]]))


@pytest.mark.parametrize("y", [1e-4, 0.01, 0.5, 1.0, 3.7, 50.0, 1e4, 1e8])
def test_trigamma_inverse_inverts(y: float) -> None:
    assert verdict.trigamma_inverse(float(special.polygamma(1, y))) == pytest.approx(y, rel=1e-5)


def limma(variances: np.ndarray, x: np.ndarray, df: int) -> tuple[np.ndarray, np.ndarray]:
    """fitFDist and squeezeVar of limma 3.58 with a linear covariate, line by line from their R source."""
    design = np.stack((np.ones(len(x)), x), 1)
    e = np.log(variances) - special.digamma(df / 2) + np.log(df / 2)
    coefficients = np.linalg.solve(design.T @ design, design.T @ e)
    emean = design @ coefficients
    evar = ((e - emean) ** 2).sum() / (len(e) - 2) - special.polygamma(1, df / 2)
    assert evar > 0
    grid = np.geomspace(1e-3, 1e6, 2_000_001)
    df2 = 2 * grid[np.argmin(np.abs(special.polygamma(1, grid) - evar))]
    s20 = np.exp(emean + special.digamma(df2 / 2) - np.log(df2 / 2))
    return (df * variances + df2 * s20) / (df + df2), np.full(len(x), df + df2)


def test_many_placements_have_the_variances_of_limma() -> None:
    """With thousands of placements neither leverage nor doubt about the spread is left of what we add."""
    rng = np.random.default_rng(0)
    true = rng.choice([0.0, 0.01, 0.05], 3000)
    sd = (true + 0.002) * np.exp(0.6 * rng.standard_normal(3000))
    gains = drawn(rng, list(true), sd, 5)
    found = verdict.noise(gains)
    expected, df = limma(gains.var(1, ddof=1), np.log(np.abs(gains.mean(1)) + verdict.SMALL), 4)
    assert found.variance == pytest.approx(expected, rel=0.03)
    assert found.df == pytest.approx(df, rel=0.03)


def test_a_few_variances_by_hand() -> None:
    """Four placements, no trend: each is drawn to the mean of the three others' log variances."""
    own = np.array([1.0, 2.0, 4.0, 30.0]) * 1e-6
    gains = np.sqrt(own)[:, None] * np.array([-1.0, 0.0, 1.0])  # sample variance of -1, 0, 1 is 1
    found = verdict.noise(gains)
    log = np.log(own) - special.digamma(1) + np.log(1)
    rest, chance = ((log - log.mean()) ** 2).sum(), float(special.polygamma(1, 1))
    sds = np.linspace(0, 1 + 5 * np.sqrt(rest / 3), 200_001)
    weight = (sds**2 + chance) ** -1.5 * np.exp(-rest / (2 * (sds**2 + chance)))
    excess = sds[np.searchsorted(np.cumsum(weight), weight.sum() / 2)] ** 2
    unsure = excess + (excess + chance) / 3  # of one placement about the mean of three others
    prior = 2 * verdict.trigamma_inverse(unsure)
    for i in range(4):
        level = np.exp(np.delete(log, i).mean() + special.digamma(prior / 2) - np.log(prior / 2))
        assert found.variance[i] == pytest.approx((prior * level + 2 * own[i]) / (prior + 2), rel=0.01)
        assert found.df[i] == pytest.approx(prior + 2, rel=0.01)


def test_equal_noise_is_pooled() -> None:
    gains = drawn(np.random.default_rng(1), [0.0] * 200, 0.001, 5)
    found = verdict.noise(gains)
    assert np.median(found.df) > 60 and found.variance == pytest.approx(1e-6, rel=0.5)
    few = verdict.noise(gains[:12])
    assert few.variance.std() < gains[:12].var(1, ddof=1).std() / 2, "and a dozen lend each other much"
    assert 8 < few.df.max() < 48, "but less than if it were known that their noise is the same"


def test_a_lone_large_gain_has_its_own_noise_only() -> None:
    """Nothing else says how noisy a gain of that size is: it must not pass for one that all have told."""
    rng = np.random.default_rng(2)
    gains = drawn(rng, [0.08] + [0.0] * 11, np.array([0.02] + [0.001] * 11), 5)
    found = verdict.noise(gains)
    assert found.df[0] < found.df[1:].min() and found.df[0] < 9
    assert found.variance[0] == pytest.approx(gains[0].var(ddof=1), rel=0.5)


@pytest.mark.parametrize("idle", [1, 9, 10, 12])
def test_placements_that_do_nothing(idle: int) -> None:
    gains = drawn(np.random.default_rng(3), [0.01] * 12, 0.002, 3)
    gains[:idle] = 0.0
    found = verdict.noise(gains)
    everything = verdict.over_base(gains, found, 4) + verdict.over_group(gains, found, 4, range(4, 8))
    assert np.isfinite(found.variance).all() and (found.variance > 0).all() and np.isfinite(found.df).all()
    assert np.isfinite([[i.value, i.low, i.high] for i in everything]).all()
    front = verdict.on_front(gains, found, np.ones((13, 1)), np.zeros((13, 1)))
    assert np.isfinite(front).all()
    if idle == 1:
        alone = verdict.noise(gains[1:])
        assert found.variance[1:] == pytest.approx(alone.variance), "it says nothing of the others' noise"


def test_two_seeds_at_least() -> None:
    with pytest.raises(ValueError, match="2 seeds, got 1"):
        verdict.noise(np.zeros((4, 1)))
    found = verdict.noise(drawn(np.random.default_rng(0), [0.0, 0.0], 0.001, 2))
    assert list(found.df) == [1.0, 1.0], "two placements lend each other nothing"


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("shared", [0.0, 0.6])
def test_intervals_hold_all_at_once(seeds: int, shared: float) -> None:
    """2,000 studies of four placebos and eight controls: single intervals of 95% would hold in 81 to 88 of 100."""
    rng, held = np.random.default_rng(4), 0
    for _ in range(2000):
        own, both = rng.standard_normal((12, seeds)), rng.standard_normal(seeds)
        gains = 0.0013 * (np.sqrt(1 - shared) * own + np.sqrt(shared) * both)
        held += all(i.low <= 0 <= i.high for i in verdict.over_base(gains, verdict.noise(gains), 4))
    assert 0.935 < held / 2000 < 0.985


def test_each_interval_alone_reaches_as_sidak_says() -> None:
    gains = np.zeros((4, 5))
    found = verdict.over_base(gains, flat(4), 4)
    assert half(found[0]) == pytest.approx(stats.t.ppf(0.5 + 0.95**0.25 / 2, 20) * np.sqrt(1e-6 / 5))
    one = verdict.over_base(gains, flat(4), 1)
    assert len(one) == 1 and half(one[0]) == pytest.approx(stats.t.ppf(0.975, 20) * np.sqrt(1e-6 / 5))


def test_over_a_group_its_members_lie_apart() -> None:
    gains = np.tile([[0.02], [0.0], [0.02], [-0.02], [0.0]], (1, 5))
    alike = gains.copy()
    alike[1:] = 0.0
    apart, same = (verdict.over_group(g, flat(5), 1, range(1, 5))[0] for g in (gains, alike))
    assert apart.value == pytest.approx(0.02) == same.value
    assert half(same) == pytest.approx(
        stats.t.ppf(0.975, 20 * (1.25**2) / (1 + 1 / 64)) * np.sqrt(1.25e-6 / 5), rel=0.02
    )
    spread = np.var([0.0, 0.02, -0.02, 0.0], ddof=1) / 4
    assert half(apart) == pytest.approx(stats.t.ppf(0.975, 3) * np.sqrt(spread), rel=0.02), "four members: 3 df"
    single = verdict.over_group(gains, flat(5), 1, [1])[0]
    assert half(single) == pytest.approx(stats.t.ppf(0.975, 40) * np.sqrt(2e-6 / 5)), "one member: only its noise"


def test_over_another_placement() -> None:
    gains = np.tile([[0.02], [0.005]], (1, 5))
    one, back = verdict.over_other(gains, flat(2), [(0, 1), (1, 0)])
    assert one.value == pytest.approx(0.015) == -back.value and one.low == pytest.approx(-back.high)
    assert half(one) == pytest.approx(float(verdict.quantile(40, 2)) * np.sqrt(2e-6 / 5))


def test_other_images_widen_intervals() -> None:
    rng, gains = np.random.default_rng(5), np.zeros((3, 5))
    base = rng.standard_normal(500) * 0.01
    resampled = base + np.array([[0.002], [0.002], [0.0]]) * rng.standard_normal(500)
    images = verdict.over_images(resampled, base)
    assert images.shape == (3, 3) and images[0, 0] == pytest.approx(4e-6, rel=0.2)
    near, wide = (verdict.over_base(gains, flat(3), 3, i) for i in (None, images))
    both = 2e-7 + images[0, 0]
    df = 20 * (both / 2e-7) ** 2  # the part of the images is known
    assert half(wide[0]) == pytest.approx(float(verdict.quantile(df, 3)) * np.sqrt(both)) and half(wide[0]) > half(
        near[0]
    )
    assert half(wide[2]) == pytest.approx(half(near[2]))
    alike = verdict.over_other(gains, flat(3), [(0, 1)], images)[0]
    assert half(alike) == pytest.approx(half(verdict.over_other(gains, flat(3), [(0, 1)])[0]), rel=1e-3)
    assert verdict.over_images(resampled[:1], base).shape == (1, 1)


def test_probability_of_standing_on_the_front() -> None:
    gains = np.tile([[0.02], [0.01], [0.0], [0.0005]], (1, 5))
    costs = np.array([[1.2], [1.3], [1.1], [1.0], [1.0]])
    found = verdict.on_front(gains, flat(4), costs, np.zeros_like(costs))
    assert found.shape == (5,) and ((found >= 0) & (found <= 1)).all()
    assert found[0] > 0.99 and found[1] < 0.01, "dearer and worse"
    assert 0.05 < found[4] < 0.95 and found[3] + found[4] == pytest.approx(1.0), "as cheap as the base: one of both"
    assert 0.05 < found[2] < 0.7, "dearer than the base, and as good"
    unsure = verdict.on_front(gains, flat(4), costs, np.full_like(costs, 0.2))
    assert unsure[1] > found[1] + 0.05, "who knows which is cheaper"
    assert list(found) == list(verdict.on_front(gains, flat(4), costs, np.zeros_like(costs))), "the same every time"


def test_seeds_that_would_tell() -> None:
    def asked(gain: float, variance: float = 4e-6, seeds: int = 5, images: float = 0.0) -> int | None:
        return verdict.seeds_to_tell(gain, variance, 10.0, seeds, 4, images)

    numbers = [asked(g) for g in (0.02, 0.005, 0.003, 0.002)]
    assert numbers == sorted(numbers, key=lambda n: n or 99) and numbers[0] == 5 and (numbers[3] or 0) > 10
    assert asked(0.0005) is None, "not with thirty"
    by_noise = [asked(0.004, v) or 99 for v in (1e-6, 4e-6, 1e-5, 4e-5, 1e-3)]
    assert by_noise == sorted(by_noise) and by_noise[-1] == 99
    assert asked(0.01, images=0.001**2) is not None and asked(0.01, images=0.004**2) is None, "seeds are not images"


def test_the_advised_seeds_do_tell() -> None:
    """Nine times of ten, when the noise is what it was taken for."""
    rng, sd, gain = np.random.default_rng(6), 0.004, 0.006
    seeds = verdict.seeds_to_tell(gain, sd**2, 20.0, 5, 4)
    assert seeds is not None
    told = 0
    for _ in range(400):
        gains = drawn(rng, [gain] + [0.0] * 11, sd, seeds)
        told += verdict.over_base(gains, verdict.noise(gains), 4)[0].low > 0
    assert 0.82 < told / 400 < 0.97
