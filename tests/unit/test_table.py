"""A table of trainings: what is read from it, what it refuses, and its noise, spread and rank agreement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau
from trainings_made import placements, train, world, write_table

from nas import placing, spread, table
from nas.errors import InputError
from search_spaces import Block, Placement


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table of 12 placements, four with three seeds, at two budgets."""
    rng = np.random.default_rng(0)
    made = train(rng, world(rng, 0.02, 0.01), placements(rng, 12), 0.005, repeated=4)
    return write_table(tmp_path / "small", made)


def test_what_it_says_of_a_placement(folder: Path) -> None:
    found = table.read(folder)
    rows = pd.read_csv(folder / "trials.csv")
    assert found.name == "small" and found.budgets == (800, 1600) and found.seeds == (0, 1, 2)
    label = found.placements["placement"][3]
    expected = rows[(rows["placement"] == label) & (rows["seed"] == 2)].set_index("images")["map50_95"].to_dict()
    assert table.curve(found, label, 2) == expected
    assert table.value(found, label, 2, 800) == expected[800]
    base = table.value(found, "base", 2, 1600)
    assert table.gains(found, 1600).loc[label, 2] == pytest.approx(expected[1600] - base)
    assert table.gains(found, 1600).shape == (12, 3)
    assert table.gains(found, 1600).notna().sum().tolist() == [12, 4, 4]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (lambda t: table.value(t, "base", 0, 900), "is scored at 800, 1600 images, not at 900"),
        (lambda t: table.curve(t, "base", 7), "it has seeds 0, 1, 2"),
        (lambda t: table.curve(t, "bose", 0), "did you mean 'base'"),
        (lambda t: table.check_budget(t, 5), "no budget of 5 images; it has 800, 1600"),
    ],
)
def test_a_question_without_an_answer_is_told_what_there_is(question, expected: str, folder: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=expected):
        question(table.read(folder))


def change(file: str, edit):  # type: ignore[no-untyped-def]
    """A fault: ``edit`` of the frame of ``file``."""

    def apply(folder: Path) -> None:
        edit(pd.read_csv(folder / file)).to_csv(folder / file, index=False)

    return apply


def put(row: int, column: str, value: object):  # type: ignore[no-untyped-def]
    """A fault: one value of trials.csv."""

    def edit(frame: pd.DataFrame) -> pd.DataFrame:
        frame[column] = frame[column].astype(object)
        frame.loc[row, column] = value
        return frame

    return change("trials.csv", edit)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (change("trials.csv", lambda f: f.drop(columns=["seed", "val_loss"])), "no column seed, val_loss"),
        (change("placements.csv", lambda f: f.drop(columns="gflops")), "placements.csv: no column gflops"),
        (change("trials.csv", lambda f: f.iloc[:0]), "trials.csv: no rows"),
        (put(4, "placement", "neck.p3=nowhere"), "'neck.p3=nowhere' is not in placements.csv"),
        (put(4, "placement_id", "0123456789"), "has another placement_id"),
        (put(4, "map50_95", None), "map50_95 is no finite number in 1 rows, line 6"),
        (put(4, "map50_95", "oops"), "map50_95 is no finite number in 1 rows, line 6"),
        (put(4, "map50_95", 47.5), r"map50_95 outside \[0.0, 1.0\] in 1 rows, line 6"),
        (put(4, "seed", 0.5), "seed is no whole number in 1 rows, line 6"),
        (change("trials.csv", lambda f: pd.concat([f, f.iloc[[3]]])), "images a second time in 1 rows"),
        (
            change("trials.csv", lambda f: f[f["placement"] != "base"]),
            "no base under the same seed and images in 40 rows",
        ),
        (change("placements.csv", lambda f: f.replace({"base": "neck.p3"})), "'neck.p3' is not in|is no block's label"),
        (change("placements.csv", lambda f: f.assign(placement_id="x")), "has the id 'x'; expected"),
        (change("placements.csv", lambda f: pd.concat([f, f.iloc[[3]]])), "a placement a second time in 1 rows"),
    ],
)
def test_a_damaged_table_is_one_clear_error(damage, expected: str, folder: Path) -> None:  # type: ignore[no-untyped-def]
    table.read(folder)
    damage(folder)
    with pytest.raises(InputError, match=expected):
        table.read(folder)


def test_faults_of_both_files_are_told_at_once(folder: Path) -> None:
    put(4, "map50_95", None)(folder)
    change("placements.csv", lambda f: f.drop(columns="gflops"))(folder)
    with pytest.raises(InputError) as e:
        table.read(folder)
    assert len(str(e.value).splitlines()) == 2


def test_a_table_is_found_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "shelf", lambda: folder.parent)
    assert table.names() == ["small"] and table.read("small").name == "small"
    with pytest.raises(InputError, match="shipped tables: small; did you mean 'small'"):
        table.read("smal")


@pytest.mark.parametrize(
    "blocks",
    [
        {},
        {"neck.p3": "eca"},
        {
            "neck.p4": {"cot": {"kernel_size": 5, "mode": "a, b=2", "rate": 0.5, "on": True, "off": None}},
            "neck.p3": "eca",
        },
    ],
)
def test_a_label_reads_back(blocks: dict[str, object]) -> None:
    placement = Placement.of(blocks)
    assert Placement.from_label(placement.label) == placement


@pytest.mark.parametrize(
    "text", ["", "eca", "neck.p3=eca(", "neck.p3=eca(k)", "neck.p3=eca + neck.p3=cot", "neck.p3=eca "]
)
def test_what_is_no_label_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Placement.from_label(text)


def test_people_may_write_a_label_with_two_options() -> None:
    placement = Placement.of({"neck.p3": Block("cot", (("a", 1), ("b", 2))), "neck.p4": "eca"})
    assert placing.read(placement.label) == placement


def test_noise_and_spread_are_those_of_the_simulation() -> None:
    rng = np.random.default_rng(1)
    true, own, base = rng.normal(0.01, 0.02, 300), 0.008, 0.006
    ratios, noises, owns, spreads = [], [], [], []
    for _ in range(60):
        gains = true[:, None] + rng.normal(0, own, (300, 3)) - rng.normal(0, base, 3)
        gains[60:, 1:] = np.nan
        noise, its_own, found, ratio = spread.moments(gains)
        noises.append(noise**2), owns.append(its_own), spreads.append(found), ratios.append(ratio)
    assert np.mean(noises) == pytest.approx(own**2 + base**2, rel=0.15)  # the base's part is the same three numbers
    assert np.mean(owns) == pytest.approx(own, rel=0.03)
    assert np.mean(spreads) == pytest.approx(true.std(), rel=0.03)


def test_noise_alone_has_hardly_a_spread_and_the_interval_says_so() -> None:
    gains = np.random.default_rng(2).normal(0, 0.01, (80, 3))
    found = spread.spread(gains, 800)
    assert found.noise.value == pytest.approx(0.01, rel=0.15) and found.repeated == 80
    assert found.spread.low == 0 and found.ratio.high < 0.6
    assert found.noise.low < found.noise.value < found.noise.high


def test_without_repeats_noise_and_spread_are_unknown(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = train(rng, world(rng, 0.02), placements(rng, 8), 0.005)
    found = table.signal(table.read(write_table(tmp_path / "single", made)), 1600)
    assert found.repeated == 0 and found.placements == 8
    assert all(np.isnan(x.value) for x in (found.noise, found.own_noise, found.spread, found.ratio))


def test_tau_is_scipys_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(3)
    one = rng.normal(size=60).round(1)
    two = (one + rng.normal(size=60)).round(1)
    found = spread.kendall(one, two)
    assert found.value == pytest.approx(kendalltau(one, two).statistic)
    assert 0 < found.low < found.value < found.high < 1
    assert np.isnan(spread.kendall(one[:2], two[:2]).value)


def test_luck_that_a_seed_keeps_flatters_the_agreement_but_not_across_seeds(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    made = train(rng, world(rng), placements(rng, 40), 0.01, repeated=40)  # nothing but noise, the same at both budgets
    found = table.read(write_table(tmp_path / "luck", made))
    assert table.agreement(found, 800, 1600).value > 0.9
    across = table.agreement_across_seeds(found, 800, 1600)
    assert across.low < 0 < across.high and abs(across.value) < 0.2


def test_across_seeds_needs_repeats(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = train(rng, world(rng, 0.02), placements(rng, 8), 0.005)
    assert np.isnan(table.agreement_across_seeds(table.read(write_table(tmp_path / "x", made)), 800, 1600).value)


def test_placements_trained_again_for_a_high_score_do_not_tell_the_noise_but_the_luck(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    made = train(rng, world(rng, 0.02), placements(rng, 120), 0.01, repeated=120)
    folder = write_table(tmp_path / "chosen", made)
    found = table.read(folder)
    gains = table.gains(found, 1600)
    best = gains.iloc[60:, 0].nlargest(15).index
    costs = pd.read_csv(folder / "placements.csv")
    costs["drawn"] = (~costs["placement"].isin(best)).astype(int)
    costs.to_csv(folder / "placements.csv", index=False)
    honest, naive = table.read(folder), table.signal(found, 1600)
    count, first, others = table.luck(honest, 1600)
    assert count == 15 and first > others + 0.003
    assert first == pytest.approx(gains.loc[best].iloc[:, 0].mean())
    told = table.signal(honest, 1600)
    assert told.repeated == naive.repeated - 15 and told.noise.value == pytest.approx(0.0141, rel=0.35)
