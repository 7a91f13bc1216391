"""Who is compared at the end, under which seeds, beside which controls, and how latencies are taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from conftest import Searched

from nas import cost, dashboard, export, finalists, finalists_command, passes
from nas.finalists import FinalistsError
from nas.outcome import BASE, CANDIDATE, CONVOLUTION, RANDOM
from nas.setting import Setting
from search_spaces import Block, Placement


@pytest.fixture(scope="module")
def opened(searched: Searched) -> tuple[optuna.Study, Setting]:
    """A finished search and what it shares, asked for two finalists."""
    study, folder = dashboard.find("first", None, str(searched.output))
    return study, finalists_command.of_study(study, folder, None, 2, 3, None, None)


def test_the_field_is_base_candidates_random_and_convolutions(opened: tuple[optuna.Study, Setting]) -> None:
    study, prepared = opened
    of = finalists.contenders(study, prepared)
    roles = [c.role for c in of]
    assert roles[0] == BASE and len({c.placement.id for c in of}) == len(of)
    count = roles.count(CANDIDATE)
    assert 1 <= count <= 2 and roles.count(RANDOM) == count and 1 <= roles.count(CONVOLUTION) <= count
    numbers = {t.number for t in export.finished(study)}
    assert all(c.trial in numbers for c in of if c.role == CANDIDATE)
    ids = {c.placement.id for c in of if c.role == CANDIDATE}
    for c in of:
        if c.role == CONVOLUTION:
            assert c.stands_for in ids and {b.name for _, b in c.placement} == {"plain_conv"}


def test_seeds_are_not_the_searchs(opened: tuple[optuna.Study, Setting]) -> None:
    study, prepared = opened
    assert finalists.seeds(prepared) == (1, 2, 3) and prepared.recipe.seed == 0
    plan = finalists.planned(prepared, finalists.contenders(study, prepared))
    assert [j.seed for j in plan] == sorted(j.seed for j in plan)
    assert {j.epochs for j in plan} == {2 * prepared.recipe.epochs}
    kept = [j for j in plan if j.keep]
    assert {j.seed for j in kept} == {1} and Placement() in {j.placement for j in kept}


@pytest.mark.parametrize("width", [1, 5, 40])
def test_a_convolution_costs_what_it_stands_for(opened: tuple[optuna.Study, Setting], width: int) -> None:
    _, prepared = opened
    dear = Placement.of({"neck.p3": finalists.convolution(width)})
    assert finalists.convolutions(dear, prepared) == dear
    cheap = Placement.of({"neck.p4": Block("simam")})
    (found,) = [block for _, block in finalists.convolutions(cheap, prepared)]
    assert found == finalists.convolution(1)


def test_random_placements_are_new_and_within_limits(opened: tuple[optuna.Study, Setting]) -> None:
    _, prepared = opened
    space = prepared.space
    taken = {Placement.of({"neck.p3": Block("eca")}).id}
    found = finalists.drawn(space, 100, lambda p: len(p) == 1, taken, 0)
    assert len(found) == len({p.id for p in found}) == 5  # six of one block, one of them taken
    assert finalists.drawn(space, 3, lambda p: True, set(), 0) == finalists.drawn(space, 3, lambda p: True, set(), 0)


def study_of(points: list[tuple[float, float]], base: tuple[float, float] = (0.5, 1.0)) -> optuna.Study:
    """A study in memory with these scores and costs."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    for number, values in enumerate([base, *points]):
        attrs = {"placement": {} if number == 0 else {"neck.p3": "eca"}, "placement_id": str(number)}
        study.add_trial(optuna.trial.create_trial(values=list(values), user_attrs=attrs))
    return study


def test_candidates_are_spread_over_the_front() -> None:
    near = [(0.60, 1.5), (0.599, 1.49), (0.598, 1.48), (0.55, 1.1)]
    assert [t.number for t in finalists.candidates(study_of(near), 2)] == [1, 4]
    assert [t.number for t in finalists.candidates(study_of(near), 9)] == [1, 2, 3, 4]


def test_where_only_the_base_is_on_the_front_the_best_of_the_rest_are_asked() -> None:
    worse = [(0.4, 1.2), (0.45, 1.3), (0.3, 1.1)]
    assert [t.number for t in finalists.candidates(study_of(worse), 2)] == [2, 1]


def test_a_study_of_the_base_alone_has_no_finalists(opened: tuple[optuna.Study, Setting]) -> None:
    with pytest.raises(FinalistsError, match="no placement but the base"):
        finalists.contenders(study_of([]), opened[1])


def test_models_take_turns_and_the_first_is_the_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []

    def runner(number: int) -> cost.Runner:
        return cost.Runner(lambda _: order.append(number), "torch", torch.device("cpu"), "float32", "single")

    monkeypatch.setattr(cost, "once", lambda r, image: (r.forward(image), 2.0 + order[-1])[1])
    found = passes.one_pass([runner(i) for i in range(3)], 32, 3)
    assert [round(ratio, 6) for ratio, _ in found] == [1.0, 1.5, 2.0]
    assert order[6:] == [0, 1, 2, 1, 2, 0, 2, 0, 1]


def test_latencies_of_several_passes(opened: tuple[optuna.Study, Setting], tmp_path: Path) -> None:
    from dataclasses import replace

    study, prepared = opened
    prepared = replace(prepared, folder=tmp_path)
    of = finalists.contenders(study, prepared)
    rng = np.random.default_rng(0)
    lines = ["pass,placement_id,ratio,ms"]
    for number in range(6):
        lines += [f"{number},{c.placement.id},{1 + 0.1 * i + rng.normal(0, 0.01 * (i > 0))},{10 + number}"
                  for i, c in enumerate(of)]  # fmt: skip
    file = passes.file_of(prepared, of)
    file.parent.mkdir()
    file.write_text("\n".join(lines) + "\n")
    found = passes.timed(prepared, of)
    assert found[0][0].low == found[0][0].value == found[0][0].high == 1.0
    for i, (latency, ms) in enumerate(found[1:], 1):
        assert latency.low < 1 + 0.1 * i + 0.01 and latency.high > 1 + 0.1 * i - 0.01 and ms == 10
        assert 0.005 < latency.high - latency.low < 0.05
