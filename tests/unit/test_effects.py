"""The model of effects on simulated trainings: what is planted is found, what is not there is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from conftest import run_python
from trainings_made import BLOCKS, SITES, World, placements, train, world, write_table

from nas import effects, effects_report, effects_words, mixed, table, trainings
from nas.errors import InputError
from nas.trainings import Trainings
from search_spaces import Placement


def made(seed: int, count: int = 80, noise: float = 0.01, repeated: int = 0, **sds: float) -> tuple[World, Trainings]:
    rng = np.random.default_rng(seed)
    truth = world(rng, **sds)
    return truth, train(rng, truth, placements(rng, count), noise, repeated)


@pytest.fixture(scope="module")
def clear() -> tuple[World, effects.Model]:
    """A fit of 120 trainings whose effects stand out."""
    truth, data = made(0, 100, 0.005, repeated=10, block=0.02, site=0.01, both=0.01)
    return truth, effects.fit(data)


def spots(model: effects.Model, truth: World) -> pd.DataFrame:
    """Blocks at sites, with what is true of them."""
    found = effects.frame(model).query("effect == 'block at site'")
    return found.assign(true=[truth.alone[spot] for spot in zip(found["block"], found["site"], strict=True)])


def test_intervals_hold_what_is_true_95_times_of_100() -> None:
    inside: dict[str, list[bool]] = {"alone": [], "block": [], "placement": []}
    for seed in range(24):
        truth, data = made(seed, 60, 0.015, block=0.02, site=0.01, both=0.01)
        model = effects.fit(data)
        rows = spots(model, truth)
        inside["alone"] += rows["true"].between(rows["low"], rows["high"]).tolist()
        of_blocks = effects.frame(model).query("effect == 'block'").set_index("block")
        true = rows.groupby("block")["true"].mean()
        inside["block"] += true.between(of_blocks["low"], of_blocks["high"]).tolist()
        tried = placements(np.random.default_rng(100 + seed), 30)
        mean, sd = effects.predict(model, tried)
        inside["placement"] += (np.abs(mean - [truth.gain(p) for p in tried]) < effects.Z95 * sd).tolist()
    shares = {what: float(np.mean(hits)) for what, hits in inside.items()}
    assert all(0.9 <= share <= 0.985 for share in shares.values()), shares


def test_shrinkage_is_nearer_to_the_truth_than_least_squares() -> None:
    ours, theirs = [], []
    for seed in range(8):
        truth, data = made(seed, 60, 0.02, block=0.015, site=0.005, both=0.005)
        rows = spots(effects.fit(data), truth)
        pairs = list(zip(rows["block"], rows["site"], strict=True))
        design = np.array(
            [[1.0, *(p.get(s) is not None and p.get(s).name == b for b, s in pairs)] for p in data.placements]
        )  # type: ignore[union-attr]
        least = np.linalg.lstsq(design, data.values, rcond=None)[0][1:]
        ours.append(((rows["mean"] - rows["true"]) ** 2).mean())
        theirs.append(((least - rows["true"]) ** 2).mean())
    assert np.mean(ours) < 0.5 * np.mean(theirs)


def test_noise_tells_nothing_apart_and_is_called_so() -> None:
    told, wrong = [], []
    for seed in range(16):
        _, data = made(seed, 60, 0.01)
        model = effects.fit(data)
        told.append(model.check.told)
        rows = effects.frame(model).query("effect == 'block at site'")
        wrong.append(((rows["low"] > 0) | (rows["high"] < 0)).mean())
    assert sum(told) <= 3 and np.mean(wrong) < 0.05
    model = effects.fit(made(int(np.argmin(told)), 60, 0.01)[1])
    assert effects_words.verdict(model)[0].startswith("These data do not tell blocks apart")
    (answer, _) = effects_words.answer(model, "eca", None)
    assert "do not tell blocks apart" in answer


def test_planted_effects_are_told_and_predicted(clear: tuple[World, effects.Model]) -> None:
    truth, model = clear
    assert model.check.told and effects_words.verdict(model)[0].startswith("These data tell blocks")
    assert model.check.explained > 0.7 and model.check.tau.low > 0.5
    assert model.check.blocks is not None and model.check.blocks <= 0.001
    assert model.fit.noise == pytest.approx(0.005, rel=0.5)
    rows = spots(model, truth)
    assert np.corrcoef(rows["mean"], rows["true"])[0, 1] > 0.95
    assert rows["placements"].sum() == sum(len(p) for p in set(model.data.placements))


def test_the_order_of_the_trainings_does_not_matter() -> None:
    _, data = made(0, 60, 0.005, repeated=5, block=0.02, site=0.01, both=0.005)
    order = np.random.default_rng(0).permutation(len(data.values))
    moved = Trainings(
        data.name,
        data.metric,
        data.images,
        tuple(data.placements[i] for i in order),
        tuple(data.seeds[i] for i in order),
        data.values[order],
    )
    one, two = effects.fit(data), effects.fit(moved)
    assert (one.check.blocks, one.check.sites) == (two.check.blocks, two.check.sites) == (0.001, 0.001)
    assert effects.frame(one)["mean"].to_numpy() == pytest.approx(effects.frame(two)["mean"].to_numpy(), abs=1e-6)


def test_only_sites_matter_and_blocks_are_not_said_to() -> None:
    blocks = [effects.fit(made(seed, 60, 0.01, site=0.03)[1]).check for seed in range(6)]
    assert sum((c.blocks or 0) < 0.05 for c in blocks) <= 2
    assert all(c.sites is not None and c.sites < 0.05 for c in blocks)


def test_pairs_are_found_when_planted_and_not_when_absent() -> None:
    for seed in range(4):
        model = effects.fit(made(seed, 250, 0.004, block=0.01, pair=0.03)[1])
        assert model.check.pairs is not None and model.check.pairs < 0.01 and "pair" in model.fit.sds
    truth, data = made(0, 250, 0.004, block=0.01, pair=0.03)
    rows = effects.frame(effects.fit(data)).query("effect == 'pair'")
    true = [
        truth.pairs[b, s, c, t]
        for b, s, c, t in rows[["block", "site", "with_block", "with_site"]].itertuples(index=False)
    ]
    assert np.corrcoef(rows["mean"], true)[0, 1] > 0.6
    absent = [effects.fit(made(seed, 120, 0.01, block=0.02)[1]) for seed in range(8)]
    assert sum("pair" in model.fit.sds for model in absent) <= 2


def test_left_out_predictions_are_those_of_a_fit_without_the_group() -> None:
    rng = np.random.default_rng(0)
    fixed, part, y = np.ones((30, 1)), rng.integers(0, 2, (30, 5)).astype(float), rng.normal(size=30)
    fitted = mixed.mode(fixed, {"a": part}, y)
    groups = np.arange(30) // 3
    errors = mixed.left_out(fitted, np.hstack([fixed, part]), y, groups)
    rest = groups != 4
    v = part @ part.T * fitted.sds["a"] ** 2 + np.eye(30) * fitted.noise**2
    inverse = np.linalg.inv(v[np.ix_(rest, rest)])
    level = (inverse.sum(0) @ y[rest]) / inverse.sum()
    guess = level + v[np.ix_(~rest, rest)] @ inverse @ (y[rest] - level)
    assert errors[~rest] == pytest.approx(y[~rest] - guess)


def test_the_gradient_is_that_of_the_likelihood() -> None:
    rng = np.random.default_rng(0)
    parts = {"a": rng.normal(size=(40, 6)), "b": rng.normal(size=(40, 3))}
    y = parts["a"] @ rng.normal(size=6) + rng.normal(size=40)
    sums, found = mixed._find(np.ones((40, 1)), parts, y, True)
    for logs in (found, np.array([-1.0, -2.0, -0.3])):
        for guarded in (True, False):
            gradient = mixed._loss(sums, logs, guarded)[1]
            steps = np.eye(3) * 1e-5
            slopes = [
                (mixed._loss(sums, logs + s, guarded)[0] - mixed._loss(sums, logs - s, guarded)[0]) / 2e-5
                for s in steps
            ]
            assert gradient == pytest.approx(slopes, abs=1e-4)
    v = sum((z @ z.T * 0.01 for z in parts.values()), np.eye(40) * 0.04)
    other = sum((z @ z.T * 0.09 for z in parts.values()), np.eye(40) * 0.25)
    want = restricted(v, y) - restricted(other, y)
    logs = [np.log(np.array([a, a, n]) / sums.unit) for a, n in ((0.1, 0.2), (0.3, 0.5))]
    assert mixed._posterior(sums, logs[0])[2] - mixed._posterior(sums, logs[1])[2] == pytest.approx(want)


def restricted(v: np.ndarray, y: np.ndarray) -> float:
    """Restricted log likelihood with a free level, by its definition."""
    inverse = np.linalg.inv(v)
    level = inverse.sum(0) @ y / inverse.sum()
    rest = y - level
    return float(-0.5 * (np.linalg.slogdet(v)[1] + np.log(inverse.sum()) + rest @ inverse @ rest))


def test_predictions_of_the_base_and_of_what_was_never_seen(clear: tuple[World, effects.Model]) -> None:
    _, model = clear
    known = Placement.of({"neck.p3": "eca"})
    mean, sd = effects.predict(model, [Placement(), known, Placement.of({"neck.p3": "s2"})])
    assert mean[0] == 0 and sd[0] == 0
    row = effects.frame(model).query("effect == 'block at site' and block == 'eca' and site == 'neck.p3'").iloc[0]
    assert mean[1] == pytest.approx(row["mean"]) or known in model.data.placements
    assert sd[2] > 2 * row["sd"]


def test_the_answer_is_a_sentence_with_figure_and_interval(clear: tuple[World, effects.Model]) -> None:
    _, model = clear
    means = effects.frame(model).query("effect == 'block'").sort_values("mean")
    best, worst = means.iloc[-1], means.iloc[0]
    assert best["low"] > 0 > worst["high"]
    assert effects_words.answer(model, best["block"], None)[0].startswith(
        f"{best['block']} helps: the mAP50-95 changes by +"
    )
    line, where = effects_words.answer(model, worst["block"], None)
    assert (
        line.startswith(f"{worst['block']} hurts") and f"{worst['mean']:+.4f} (95% interval {worst['low']:+.4f}" in line
    )
    assert "on average over the 4 sites" in line and where.startswith("By site: ")
    (both,) = effects_words.answer(model, worst["block"], "neck.p3")
    assert f"{worst['block']} at neck.p3" in both
    line, where = effects_words.answer(model, None, "neck.p3")
    assert "neck.p3" in line and where.startswith("By block: ")
    with pytest.raises(InputError, match=r"--block 'ecaa' is not in the data; .*did you mean 'eca'"):
        effects_words.answer(model, "ecaa", None)


def test_the_picture_has_every_block_at_every_site(clear: tuple[World, effects.Model]) -> None:
    _, model = clear
    picture = effects_report.figure(model, effects.frame(model))
    heat, _, *points = picture.data
    assert np.isfinite(heat.z.astype(float)).sum() == len(BLOCKS) * len(SITES) == sum(len(p.x) for p in points)
    assert "95% interval" in heat.hovertext[0][0] and set(heat.x) == set(SITES)


@pytest.mark.parametrize(
    ("placements_", "seeds", "values", "expected"),
    [
        (["base", "neck.p3=eca"], [0, 0], [0.5, 0.6], "at least 6 placements beside the base, got 1"),
        (["base", "neck.p3=eca"], [0, 1], [0.5, 0.6], "the untouched base was not trained under seed 1"),
        (["base", *(f"{s}={b}" for s in SITES for b in BLOCKS)], [0] * 25, [0.5] * 25, "all scores are the same"),
    ],
)
def test_data_that_carry_no_effects_are_refused(
    placements_: list[str], seeds: list[int], values: list[float], expected: str
) -> None:
    tried = tuple(Placement.from_label(x) for x in placements_)
    with pytest.raises(InputError, match=expected):
        effects.fit(Trainings("x", "mAP50-95", None, tried, tuple(seeds), np.array(values)))


@pytest.mark.parametrize("names", [{"eca"}, set(BLOCKS)], ids=["one block", "one site"])
def test_one_block_or_one_site_alone_can_be_fitted(names: set[str]) -> None:
    rng = np.random.default_rng(0)
    tried = [Placement.of({s: b}) for s in SITES for b in sorted(names)] if len(names) == 1 else []
    tried += (
        [Placement.of({"neck.p3": b}) for b in BLOCKS]
        if len(names) > 1
        else [Placement.of({"neck.p3": "eca", s: "eca"}) for s in SITES if s != "neck.p3"]
    )
    model = effects.fit(train(rng, world(rng, 0.02, 0.02), tried, 0.005))
    rows = effects.frame(model)
    assert np.isfinite(rows["mean"]).all() and effects_words.verdict(model)
    assert (model.check.blocks is None) == (len(names) == 1) and (model.check.sites is None) == (len(names) > 1)


def study_of(data: Trainings, curve: bool) -> optuna.Study:
    """A study whose finished trials are these trainings, with one failed and one repeated trial besides."""
    study = optuna.create_study(study_name="made")
    for i, (placement, score) in enumerate(zip(data.placements, data.values, strict=True)):
        points = [{"images": 800, "value": score / 2}, {"images": 1600, "value": score}] if curve else []
        figures = {"metric": "top-1 accuracy", "value": score, "seed": 0, "images_seen": 1600, "curve": points}
        attrs = {"placement": placement.to_json(), "score": json.loads(json.dumps(figures))}
        study.add_trial(optuna.trial.create_trial(value=float(score), user_attrs=attrs))
        if i == 3:
            study.add_trial(optuna.trial.create_trial(value=float(score), user_attrs=attrs | {"duplicate_of": 3}))
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL, user_attrs={"error": "no"}))
    return study


def test_a_study_gives_the_trainings_that_count() -> None:
    _, data = made(0, 20, block=0.02)
    found = trainings.from_study(study_of(data, curve=True))
    assert found.placements == data.placements and found.values.tolist() == data.values.tolist()
    assert (found.name, found.metric, found.images) == ("made", "top-1 accuracy", 1600)
    early = trainings.from_study(study_of(data, curve=True), 800)
    assert early.values == pytest.approx(data.values / 2) and early.images == 800
    with pytest.raises(InputError, match="no score at 800 images; it has them at 1600"):
        trainings.from_study(study_of(data, curve=False), 800)
    with pytest.raises(InputError, match="no finished trial"):
        trainings.from_study(optuna.create_study())


def test_effects_need_no_torch() -> None:
    run_python(
        "import sys, nas.effects, nas.effects_words, nas.table\n"
        "heavy = {'torch', 'ultralytics', 'optuna'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )


def test_a_table_gives_the_trainings_of_a_budget(tmp_path: Path) -> None:
    _, data = made(0, 20, block=0.02, repeated=3)
    found = trainings.from_table(table.read(write_table(tmp_path / "made", data)), 800)
    want = {(p, s): v / 2 for p, s, v in zip(data.placements, data.seeds, data.values, strict=True)}
    got = {(p, s): v for p, s, v in zip(found.placements, found.seeds, found.values, strict=True)}
    assert got == pytest.approx(want, abs=1e-7) and (found.images, found.metric) == (800, "mAP50-95")


def test_a_study_in_rungs_is_read_to_the_end_or_at_a_rung_of_all() -> None:
    from optuna.trial import TrialState

    from nas import trainings

    study = optuna.create_study(directions=["maximize", "minimize"], study_name="rungs")
    for i, label in enumerate(["base", *(f"neck.p{k}={b}" for k in (3, 4) for b in ("eca", "sk", "cot", "mhsa"))]):
        whole = i < 3
        curve = [{"images": 272, "value": 0.5 + i / 100}, {"images": 800, "value": 0.6 + i / 100}][: 1 + whole]
        score = {"value": curve[-1]["value"], "images_seen": curve[-1]["images"], "curve": curve, "seed": 0}
        placement = Placement.from_label(label)
        attrs = {
            "score": {**score, "metric": "mAP50-95"},
            "placement": placement.to_json(),
            "placement_id": placement.id,
        }
        state = TrialState.COMPLETE if whole else TrialState.PRUNED
        values = [curve[-1]["value"], 1.0] if whole else None
        study.add_trial(optuna.trial.create_trial(state=state, values=values, user_attrs=attrs))
    with pytest.raises(trainings.EffectsError, match=r"3 with the base.*6 more in part: --budget 272 reads all"):
        trainings.from_study(study)
    found = trainings.from_study(study, 272)
    assert len(found.placements) == 9 and found.values.max() == pytest.approx(0.58)
    assert len(trainings.from_study(study, 800).placements) == 3
