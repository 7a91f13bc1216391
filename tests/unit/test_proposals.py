"""The sampler that knows costs: what it may propose, what it prefers, whom it trains on, and when it ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest

from nas import history, sampler
from nas.history import Past
from nas.proposals import EHVISampler, Known, kin_of
from search_spaces import Placement, SearchSpace, sample
from search_spaces.space import parse

WORTH = {"eca": 0.0, "cot": 0.03, "sk": 0.02, "mhsa": 0.05}
FLOPS = {"eca": 0.0, "cot": 0.1, "sk": 0.05, "mhsa": 0.2}
SITES = ("a", "b", "c")


def space(sites: tuple[str, ...] = SITES, most: int = 2) -> SearchSpace:
    return parse({"sites": list(sites), "blocks": list(WORTH), "max_blocks": most})


def flops(p: Placement) -> float:
    return 1.0 + sum(FLOPS[b.name] for _, b in p)


def gain(p: Placement) -> float:
    return sum(WORTH[b.name] * (1 + SITES.index(s)) for s, b in p)


def known(of: SearchSpace, rungs: int = 1, objective: str = "gflops", allowed: Any = lambda p: True) -> Known:
    kin = kin_of(of, lambda label: label, lambda site, block: FLOPS[block.name])
    return Known(of, allowed, kin, flops, flops, ("map", objective), rungs)


def past(p: Placement, *values: float, state: str = history.DONE, trial: int = 0, latency: float = 1.0) -> Past:
    cost = {"gflops": flops(p), "latency": {"ratio": latency}} if values else {}
    return Past(p, trial, state, values, 0 if values else None, cost)


def pasts(of: SearchSpace, count: int, rungs: int = 1) -> list[Past]:
    """The base and that many placements at the top."""
    rng = np.random.default_rng(0)
    every = [p for p in of.placements() if len(p)]
    chosen = [Placement(), *(every[i] for i in rng.permutation(len(every))[:count])]
    steps = [(k + 1) / rungs for k in range(rungs)]
    return [past(p, *(0.6 + gain(p) * s for s in steps), trial=i) for i, p in enumerate(chosen)]


def test_it_finds_the_front_in_few_trials() -> None:
    of = space()
    inner = sampler.make("ehvi", of, lambda p: True, 0, known=known(of))
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=inner)
    study.enqueue_trial(of.params(Placement()))

    def run(trial: optuna.Trial) -> tuple[float, float]:
        p = sample(of, trial)
        trial.set_user_attr("cost", {"gflops": flops(p), "latency": None})
        trial.set_user_attr("score", {"curve": [{"value": 0.6 + gain(p)}], "value": 0.6 + gain(p), "seed": 0})
        return 0.6 + gain(p), flops(p)

    study.optimize(run, n_trials=20)
    tried = {of.placement(t.params) for t in study.trials}
    best = max((p for p in of.placements()), key=gain)
    assert len(tried) == 20 and best in tried


def test_it_proposes_nothing_tried_running_or_beyond_the_limits() -> None:
    of = space()
    running = past(Placement.of({"c": "mhsa"}), state=history.RUNNING)
    model = EHVISampler(known(of, allowed=lambda p: p.get("a") is None), 0)
    pool = {p.id for p in model.pool([*pasts(of, 5), running])}
    assert running.placement.id not in pool and not pool & {p.placement.id for p in pasts(of, 5)}
    every = [p for p in of.placements() if len(p) and p.get("a") is None]
    assert len(pool) == len([p for p in every if p.id not in {q.placement.id for q in [*pasts(of, 5), running]}])


def test_a_large_space_is_sampled_and_the_best_have_their_neighbours() -> None:
    of = space(tuple(f"s{i}" for i in range(9)), 4)
    model = EHVISampler(known(of), 0)
    assert model.whole is None
    one = Placement.of({"s1": "mhsa", "s2": "cot"})
    pool = {p.id for p in model.pool([past(Placement(), 0.6), past(one, 0.7, trial=1)])}
    assert {q.id for q in of.neighbours(one)} <= pool and 500 < len(pool) < 2000


def test_who_trains_is_counted_as_if_it_had_ended() -> None:
    of = space()
    model, done = EHVISampler(known(of), 0), pasts(of, 12)
    told = {p.placement.id for p in done}
    best = max((p for p in of.placements() if p.id not in told), key=gain)
    seen = model.seen([*done, past(best, state=history.RUNNING)])
    dreamt = next(s for s in seen if s.placement == best)
    assert dreamt.values[0] == pytest.approx(0.6 + gain(best), abs=0.04) and len(seen) == len(done) + 1


def test_a_paused_training_goes_on_when_it_is_worth_more_than_a_new_one() -> None:
    of = space()
    model, done = EHVISampler(known(of, rungs=2), 0), pasts(of, 25, rungs=2)
    tried = {p.placement.id for p in done}
    best = max((p for p in of.placements() if p.id not in tried), key=gain)
    worst = Placement.of({"a": "eca"})
    done = [p for p in done if p.placement not in (best, worst)]
    good = past(best, 0.6 + gain(best) / 2, state=history.PAUSED, trial=90)
    bad = past(worst, 0.6, state=history.PAUSED, trial=91)
    assert model.go_on([*done, good, bad], room=True) == good
    assert model.go_on([*done, good, bad], room=False) == good
    assert model.go_on([*done, bad], room=False) is None, "what is believed to be behind the front does not go on"


def test_latency_is_learnt_from_what_was_measured() -> None:
    of = space()
    model = EHVISampler(known(of, objective="latency"), 0)
    slow = lambda p: 1 + sum(0.3 for _, b in p if b.name == "eca")  # noqa: E731  no GFLOPs, and slow
    every = [p for p in of.placements() if len(p)]
    tried = [past(p, 0.6, trial=i, latency=slow(p)) for i, p in enumerate([Placement(), *every[:40]])]
    found = model.latency(tried, every[40:])
    true = np.array([slow(p) for p in every[40:]])
    assert np.abs(found - true).mean() < 0.05 < np.abs([flops(p) - slow(p) for p in every[40:]]).mean()


def test_what_was_found_when_asking_who_goes_on_is_not_thought_over_again(monkeypatch: pytest.MonkeyPatch) -> None:
    of = space()
    outer = sampler.make("ehvi", of, lambda p: True, 0, known=known(of, rungs=2))
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=outer)
    study.set_metric_names(["mAP50-95", "GFLOPs"])
    looks: list[str] = []
    look = EHVISampler.look
    monkeypatch.setattr(EHVISampler, "look", lambda *a, **k: looks.append("") or look(*a, **k))
    assert outer.go_on(study, 2, True, lambda past: True) is None
    sample(of, study.ask())
    assert len(looks) == 1
    sample(of, study.ask())
    assert len(looks) == 2, "there is one more that runs"


def test_where_everything_is_tried_it_proposes_nothing() -> None:
    of = space(("a",), 1)
    done = [past(p, 0.6 + gain(p), trial=i) for i, p in enumerate(of.placements())]
    assert EHVISampler(known(of), 0).look(done, room=True, go_on=True) is None


def test_the_same_seed_proposes_the_same() -> None:
    of, done = space(), pasts(space(), 6)
    one, two = (EHVISampler(known(of), 3).look(done, True, False) for _ in range(2))
    assert one == two


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(ValueError, match="sampler 'ehv'"):
        sampler.make("ehv", space(), lambda p: True, 0)
    with pytest.raises(ValueError, match="needs `known`"):
        sampler.make("ehvi", space(), lambda p: True, 0)
