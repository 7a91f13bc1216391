"""What a study says of its placements: the farthest training of each, and in what state it is."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.trial import TrialState

from nas import history
from search_spaces import Placement
from search_spaces.space import parse

SPACE = parse({"sites": ["a", "b"], "blocks": ["eca", "cot"], "max_blocks": 2})


def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(directions=["maximize", "minimize"])


def put(
    of: optuna.Study, blocks: dict[str, str], state: TrialState, curve: tuple[float, ...] = (), **attrs: Any
) -> int:
    """A trial that ended in ``state``, its score at each rung in ``curve``; its number."""
    params = SPACE.params(Placement.of(blocks))
    if curve:
        attrs["score"] = {"curve": [{"value": v} for v in curve], "value": curve[-1], "seed": 0}
        attrs["cost"] = {"gflops": 1.0, "latency": {"ratio": 1.1}}
    distributions = {s: optuna.distributions.CategoricalDistribution(SPACE.choices(s)) for s, _ in SPACE.sites}
    values = [curve[-1], 1.1] if state == TrialState.COMPLETE else None
    of.add_trial(
        optuna.trial.create_trial(
            state=state, params=params, distributions=distributions, values=values, user_attrs=attrs
        )
    )
    return len(of.trials) - 1


def states(of: optuna.Study) -> dict[str, str]:
    """Label -> state."""
    return {p.placement.label: p.state for p in history.read(of, SPACE)}


def test_each_end_of_a_trial_is_told_apart() -> None:
    of = study()
    put(of, {}, TrialState.COMPLETE, (0.5, 0.6))
    put(of, {"a": "eca"}, TrialState.PRUNED, (0.5,), rung=1, rungs=2)
    put(of, {"a": "cot"}, TrialState.PRUNED, infeasible="too slow")
    put(of, {"b": "eca"}, TrialState.FAIL, error="loss is not finite")
    put(of, {"b": "cot"}, TrialState.FAIL)
    put(of, {"a": "eca", "b": "eca"}, TrialState.RUNNING)
    assert states(of) == {
        "base": "done", "a=eca": "paused", "a=cot": "refused", "b=eca": "dead", "a=eca + b=eca": "running",
    }, "what was interrupted is as if never begun"  # fmt: skip


def test_a_training_that_went_on_is_one_placement() -> None:
    of = study()
    first = put(of, {"a": "eca"}, TrialState.PRUNED, (0.5,))
    put(of, {"a": "eca"}, TrialState.FAIL, continues=first)  # interrupted
    (one,) = history.read(of, SPACE)
    assert (one.state, one.trial, one.values) == ("paused", first, (0.5,))
    put(of, {"a": "eca"}, TrialState.RUNNING, continues=first)
    (one,) = history.read(of, SPACE)
    assert (one.state, one.trial, one.values) == ("running", first, (0.5,))
    of = study()
    first = put(of, {"a": "eca"}, TrialState.PRUNED, (0.5,))
    last = put(of, {"a": "eca"}, TrialState.COMPLETE, (0.5, 0.7), continues=first)
    (one,) = history.read(of, SPACE)
    assert (one.state, one.trial, one.values, one.latency, one.gflops) == ("done", last, (0.5, 0.7), 1.1, 1.0)


def test_a_leg_that_failed_is_not_tried_again() -> None:
    of = study()
    first = put(of, {"a": "eca"}, TrialState.PRUNED, (0.5,))
    put(of, {"a": "eca"}, TrialState.FAIL, continues=first, error="loss is not finite")
    assert states(of) == {"a=eca": "dead"}
