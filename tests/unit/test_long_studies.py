"""Long studies: what is kept, summed up or left out to be quick says the same as reading all of it anew."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from nas import export, front, history, parts, progress, report, rungs, sampler, surrogate
from nas.parts import LATENCY, SCORE, Kin, Priors, Seen
from search_spaces import Placement, SearchSpace
from search_spaces.space import parse

SITES, BLOCKS = ("a", "b", "c", "d"), ("eca", "cot", "sk", "mhsa")
SPACE = parse({"sites": list(SITES), "blocks": list(BLOCKS), "max_blocks": 3})
OTHER = parse({"sites": list(SITES), "blocks": ["sk", "simam", "cot", "eca", "mhsa"], "max_blocks": 3})
KIN = Kin(lambda label: "light" if label in ("eca", "sk") else "dear", lambda s, b: 0.2 * (1 + SITES.index(s)))
EVERY = [p for p in SPACE.placements() if len(p)]


def study(storage: str | None = None, name: str = "long") -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = optuna.create_study(directions=["maximize", "minimize"], storage=storage, study_name=name)
    made.set_metric_names(["mAP50-95", "latency (x base)"])
    made.set_user_attr("base_yaml", {"head": [[-1, 1, "Detect", []]]})
    return made


def made(p: Placement, state: TrialState, value: float = 0.5, space: SearchSpace = SPACE, **attrs: Any) -> Any:
    """A trial that ended, or runs."""
    attrs |= {"placement": p.to_json(), "placement_id": p.id, "label": p.label}
    if state in (TrialState.COMPLETE, TrialState.PRUNED) and "infeasible" not in attrs:
        curve = [{"images": 400, "value": value - 0.1}, {"images": 1200, "value": value}]
        curve = curve if state == TrialState.COMPLETE else curve[:1]
        attrs["score"] = {"curve": curve, "value": curve[-1]["value"], "seed": 0, "images_seen": curve[-1]["images"]}
        attrs["cost"] = {"params": 2_775_520, "gflops": 1.0 + len(p), "latency": {"ratio": 1 + value, "ms": 0.1}}
    return create_trial(
        state=state,
        params=space.params(p),
        distributions={s: CategoricalDistribution(space.choices(s)) for s in SITES},
        values=[value, 1 + value] if state == TrialState.COMPLETE else None,
        user_attrs=attrs,
    )


def fill(of: optuna.Study, count: int) -> None:
    """The base, and placements in every state, some with figures and words that a table has to quote."""
    rng = np.random.default_rng(0)
    of.add_trial(made(Placement(), TrialState.COMPLETE, 0.4))
    for i, k in enumerate(rng.permutation(len(EVERY))[:count]):
        value = float(rng.normal(0.5, 0.1))
        p, kind = EVERY[k], i % 8
        if kind < 3:
            of.add_trial(made(p, TrialState.COMPLETE, value, versions={"torch": "2.7"}, rung=2))
        elif kind < 5:
            of.add_trial(made(p, TrialState.PRUNED, value, rung=1))
        elif kind == 5:
            of.add_trial(made(p, TrialState.FAIL, error='loss is "nan", twice\nand again'))
        elif kind == 6:
            of.add_trial(made(p, TrialState.FAIL))
        else:
            of.add_trial(made(p, TrialState.PRUNED, infeasible="12 ms, above the limit"))


def anew(of: optuna.Study, space: SearchSpace = SPACE) -> list[history.Past]:
    """What is read of a study that nothing is known of."""
    history._ended.pop(of._storage, None)
    return history.read(of, space)


@pytest.fixture(params=["memory", "sqlite"])
def grown(request: pytest.FixtureRequest, tmp_path: Path) -> optuna.Study:
    of = study(None if request.param == "memory" else f"sqlite:///{tmp_path / 'a.db'}")
    fill(of, 40)
    return of


def test_what_is_kept_of_a_study_is_what_reading_it_anew_says(grown: optuna.Study) -> None:
    first = history.read(grown, SPACE)
    assert history.read(grown, SPACE) == first == anew(grown)
    assert history.read(grown, SPACE, grown.get_trials(deepcopy=False)) == first
    assert list(sampler.tried(grown, SPACE)) == [p.placement.id for p in first]


def test_a_trial_that_runs_is_read_anew_until_it_has_ended(grown: optuna.Study) -> None:
    grown.add_trial(made(EVERY[-1], TrialState.RUNNING))
    number = len(grown.trials) - 1
    of = lambda: next(p for p in history.read(grown, SPACE) if p.placement == EVERY[-1])  # noqa: E731
    assert of().state == history.RUNNING and not of().cost
    trial_id = grown.trials[number]._trial_id
    grown._storage.set_trial_user_attr(trial_id, "cost", {"gflops": 7.0})
    assert of().gflops == 7.0
    grown._storage.set_trial_user_attr(trial_id, "score", {"value": 0.7, "curve": [{"value": 0.7}]})
    grown.tell(number, state=TrialState.PRUNED)
    assert (of().state, of().values) == (history.PAUSED, (0.7,))
    assert history.read(grown, SPACE) == anew(grown)


def test_an_interrupted_trial_is_forgotten_also_from_what_is_kept(grown: optuna.Study) -> None:
    grown.add_trial(made(EVERY[-1], TrialState.RUNNING))
    assert EVERY[-1].id in set(sampler.tried(grown, SPACE))
    grown.tell(len(grown.trials) - 1, state=TrialState.FAIL)
    assert EVERY[-1].id not in set(sampler.tried(grown, SPACE)) and history.read(grown, SPACE) == anew(grown)


def test_several_studies_and_spaces_in_one_process_do_not_mix(tmp_path: Path) -> None:
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'both.db'}")
    one, two = study(storage, "one"), study(storage, "two")
    alone = study()
    one.add_trial(made(EVERY[0], TrialState.COMPLETE, 0.6))
    two.add_trial(made(EVERY[1], TrialState.PRUNED, 0.7))
    alone.add_trial(made(EVERY[2], TrialState.COMPLETE, 0.8))
    for _ in range(2):
        assert [[p.placement for p in history.read(of, SPACE)] for of in (one, two, alone)] == [
            [EVERY[0]], [EVERY[1]], [EVERY[2]]
        ]  # fmt: skip
    assert history.read(one, OTHER) == history.read(one, SPACE), "another space has its own"
    smaller = parse({"sites": ["a", "b", "c", "d", "e"], "blocks": list(BLOCKS)})
    assert history.read(one, smaller) == [] and len(history.read(one, SPACE)) == 1


def test_what_is_kept_goes_with_its_storage() -> None:
    of = study()
    fill(of, 5)
    history.read(of, SPACE)
    storage = of._storage
    assert storage in history._ended
    count = len(history._ended)
    del of, storage
    assert len(history._ended) < count


def test_the_table_is_that_of_the_frame_to_the_byte_before_and_after(grown: optuna.Study, tmp_path: Path) -> None:
    def expected() -> bytes:
        path = tmp_path / "expected.csv"
        report.trials_frame(grown).to_csv(path, index=False, float_format="%.8g")
        return path.read_bytes()

    for _ in range(2):
        assert report.write_csv(grown, tmp_path).read_bytes() == expected()
    grown.add_trial(made(EVERY[-1], TrialState.RUNNING))
    grown.add_trial(made(EVERY[-2], TrialState.COMPLETE, 0.99, versions={"optuna": "5"}))  # a column, a new front
    assert report.write_csv(grown, tmp_path).read_bytes() == expected()
    read = pd.read_csv(tmp_path / "trials.csv")
    assert len(read) == len(grown.trials) and read["reason"].dropna().str.contains("twice\nand again").any()
    base = export.base_trial(grown)
    assert read["map50_95_over_base"].dropna().tolist() == pytest.approx(
        [g for t in grown.trials if (g := progress.gain(t, base)) is not None]
    )


def plain_design(placements: list[Placement]) -> tuple[list[str], np.ndarray]:
    """The kinds of the columns and the matrix, as one would write it down."""
    keys: dict[tuple[str, ...], int] = {}
    rows = []
    for p in placements:
        row: dict[int, float] = {}
        here = [(s, b.label, max(KIN.size(s, b), parts.LEAST_SIZE)) for s, b in p]
        entries = []
        for s, b, size in here:
            f = KIN.family(b)
            for key in (("any",), ("block", b), ("family", f), ("site", s), ("cell", s, b), ("family at site", s, f)):
                entries.append((key, size))
        for (s, a, one), (t, b, two) in combinations(here, 2):
            entries += [(("sites", s, t), min(one, two)), (("blocks", *sorted((a, b))), min(one, two))]
        for key, size in entries:
            column = keys.setdefault(key, len(keys))
            row[column] = row.get(column, 0.0) + size
        rows.append(row)
    z = np.zeros((len(placements), len(keys)))
    for i, row in enumerate(rows):
        for k, size in row.items():
            z[i, k] = size
    return [key[0] for key in keys], z


@pytest.mark.parametrize("count", [0, 1, 7, 60])
def test_the_design_is_the_plain_one_to_the_bit(count: int) -> None:
    rng = np.random.default_rng(count)
    chosen = [Placement(), *(EVERY[i] for i in rng.integers(len(EVERY), size=count)), Placement()]
    found = parts.design(chosen, KIN)
    kinds, z = plain_design(chosen)
    assert list(found.kinds) == kinds
    assert np.array_equal(found.matrix(1.0, True)[0], z)


def scores(count: int, rungs: int, seeds: int) -> list[Seen]:
    """The base and placements at whatever rung, one score missing; with several seeds some are trained again."""
    rng = np.random.default_rng(count)
    chosen = [Placement(), *(EVERY[i] for i in rng.permutation(len(EVERY))[:count])]
    chosen += [chosen[0], *chosen[3:6]] * (seeds - 1)
    seen = []
    for i, p in enumerate(chosen):
        values = 0.4 + 0.02 * len(p) + 0.01 * np.cumsum(rng.standard_normal(rungs))
        values = values[: rungs if not len(p) else int(rng.integers(1, rungs + 1))]
        seen.append(Seen(p, tuple(map(float, values)), int(rng.integers(seeds)) if i <= count else seeds))
    values = seen[2].values
    seen[2] = Seen(seen[2].placement, (float("nan"), *values[1:]) if len(values) > 1 else values)
    return seen


@pytest.mark.parametrize("priors", [SCORE, LATENCY], ids=["score", "latency"])
@pytest.mark.parametrize("rungs", [1, 2, 3])
@pytest.mark.parametrize("seeds", [1, 3])
def test_summed_up_or_not_the_belief_is_the_same(
    priors: Priors, rungs: int, seeds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = scores(120, rungs, seeds)
    asked = [seen[0].placement, *(s.placement for s in seen[1:12]), *EVERY[::9]]
    asked = list({p.id: p for p in asked}.values())
    beliefs = []
    for many in (10**9, 0):
        monkeypatch.setattr(surrogate, "MANY", many)
        beliefs.append(surrogate.believe(seen, asked, KIN, rungs, priors, shared=10))
    one, two = beliefs
    assert len(one.views) == len(two.views)
    np.testing.assert_allclose(two.mean, one.mean, rtol=0, atol=1e-9)
    np.testing.assert_allclose(two.sd, one.sd, rtol=0, atol=1e-9)
    for a, b in zip(one.views, two.views, strict=True):
        assert b.weight == pytest.approx(a.weight, rel=1e-8)
        np.testing.assert_allclose(b.shared, a.shared, rtol=0, atol=1e-9 * np.abs(a.shared).max())


def test_short_studies_are_not_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("summed up")

    monkeypatch.setattr(surrogate.Sums, "lay", refuse)
    surrogate.believe(scores(120, 2, 1), EVERY[:3], KIN, 2)
    monkeypatch.setattr(surrogate, "MANY", 100)
    with pytest.raises(AssertionError, match="summed up"):
        surrogate.believe(scores(120, 2, 1), EVERY[:3], KIN, 2)


def test_the_beginning_of_an_order_is_the_order_s_beginning() -> None:
    rng = np.random.default_rng(1)
    for directions in (("maximize", "minimize"), ("maximize", "minimize", "minimize")):
        for values in (rng.standard_normal((50, len(directions))), rng.integers(0, 4, (50, len(directions)))):
            whole = rungs.ranked(values.tolist(), directions)
            assert sorted(whole) == list(range(50))
            assert all(rungs.ranked(values.tolist(), directions, n) == whole[:n] for n in (0, 1, 7, 49, 50, 90))


def test_layers_are_fronts_of_what_is_left() -> None:
    points = np.random.default_rng(2).integers(0, 6, (60, 2)).astype(float)
    left = set(range(len(points)))
    for layer in front.layers(points):
        beaten = {i for i in left for j in left if (points[j] <= points[i]).all() and (points[j] < points[i]).any()}
        assert layer.tolist() == sorted(left - beaten)
        left = beaten
    assert not left and list(front.layers(np.zeros((0, 2)))) == []


def test_costs_are_named_once_for_many(grown: optuna.Study) -> None:
    done = [p for p in history.read(grown, SPACE) if p.cost]
    costs = sampler.costs_in(grown)
    assert [costs(p) for p in done] == [sampler.known_costs(p, grown) for p in done] == [(p.latency,) for p in done]
