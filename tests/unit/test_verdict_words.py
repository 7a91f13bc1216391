"""A gain, no gain and a loss are told as plainly as one another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas import outcome, verdict_words
from nas.interval import Interval
from nas.outcome import BASE, CANDIDATE, GAIN, LOSS, NONE, Entry, Outcome


def candidate(label: str, value: float, half: float, ratio: float = 1.03, plain: Interval | None = None) -> Entry:
    """A finalist with its gain and its latency."""
    gain, latency = Interval(value, value - half, value + half), Interval(ratio, ratio - 0.01, ratio + 0.01)
    return Entry(
        CANDIDATE, label, {"neck.p3": "eca"}, label, 1, 1.0, trial=3, latency=latency, gain=gain, over_convolution=plain
    )


def told(result: str, *entries: Entry, advice: int | None = 5) -> Outcome:
    """An outcome of five seeds."""
    base = Entry(BASE, "base", {}, "base", 1, 1.0, trial=0)
    return Outcome(
        "mAP50-95", "test", "val", 200, "single", 2, (1, 2, 3, 4, 5), 0.003, result, (), (base, *entries), {}, "", "",
        {}, advice,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "half", "ratio", "said"),
    [
        (0.014, 0.005, 1.03, "Gains 1.4 ± 0.5 points of mAP50-95 for 3% more latency."),
        (-0.02, 0.004, 0.95, "Loses 2.0 ± 0.4 points of mAP50-95 for 5% less latency."),
        (
            0.001,
            0.004,
            1.002,
            "Not shown to differ from the base: between −0.3 and +0.5 points of mAP50-95 for no more latency.",
        ),
    ],
)
def test_an_entry(value: float, half: float, ratio: float, said: str) -> None:
    assert verdict_words.entry(candidate("x", value, half, ratio), "mAP50-95") == said


def test_a_gain_names_the_one_that_gains_most_for_certain() -> None:
    wide, sure = candidate("wide", 0.03, 0.029), candidate("sure", 0.02, 0.005, plain=Interval(0.015, 0.01, 0.02))
    found = told(GAIN, wide, sure, candidate("none", 0.001, 0.004))
    first, second, third, *_ = verdict_words.whole(found, Interval(0.01, 0.004, 0.016))
    assert first == (
        "sure gains 2.0 ± 0.5 points of mAP50-95 on test for 3% more latency. 2 of 3 finalists are shown to gain."
    )
    assert second == "That is 1.5 ± 0.5 points more than plain convolutions of the same GFLOPs at the same sites gain."
    assert third.startswith("The finalists gain 1.0 ± 0.6 points more than random placements do on average")
    won = outcome.winner(found)
    assert won is not None and won.label == "sure"


def test_no_gain_is_a_result() -> None:
    found = told(NONE, candidate("a", 0.001, 0.002), candidate("b", -0.001, 0.003), advice=8)
    first, *rest = verdict_words.whole(found, Interval(0.0, -0.001, 0.001))
    assert first == (
        "No placement beats the base beyond noise: of 2 finalists none gains more than 0.3 points of mAP50-95 on test, "
        "with 95%."
    )
    assert "8 seeds would probably tell more: `--seeds 8`" in rest[-1] and outcome.winner(found) is None
    assert rest[0].startswith("Whether searching beats drawing at random is open")


def test_a_loss_is_told_and_what_failed_too() -> None:
    lost = replace(candidate("c", 0.0, 0.0), gain=None, reason="out of memory")
    first, *rest = verdict_words.whole(told(LOSS, candidate("a", -0.02, 0.004), lost), None)
    assert first == "The base is best: every finalist is shown to lose mAP50-95 on test."
    assert rest == ["c is not judged: out of memory."]
    assert verdict_words.entry(lost, "mAP50-95") == "Not judged: out of memory."


@pytest.mark.parametrize(
    ("over", "said"),
    [
        (Interval(0.01, 0.002, 0.018), "That is 1.0 ± 0.8 points more than plain convolutions"),
        (Interval(-0.01, -0.018, -0.002), "It is 1.0 ± 0.8 points less than plain convolutions"),
        (Interval(0.001, -0.004, 0.006), "Whether it takes attention is open: between −0.4 and +0.6 points over"),
    ],
)
def test_beside_plain_convolutions(over: Interval, said: str) -> None:
    assert verdict_words.beside_convolutions(candidate("x", 0.02, 0.01, plain=over)).startswith(said)


@pytest.mark.parametrize(
    ("seeds", "half", "said"),
    [
        (None, None, "not even 30 seeds would tell."),
        (5, None, "not even 30 seeds would tell half a point."),
        (5, 5, "half a point it is not."),
        (5, 7, "7 seeds would probably tell half a point: `--seeds 7`."),
        (9, 20, "9 seeds would probably tell more"),
    ],
)
def test_what_it_would_take(seeds: int | None, half: int | None, said: str) -> None:
    for candidates in (1, 2):
        assert said in verdict_words.how_to_tell(candidates, seeds, 5, half)
