"""Goes in: an Outcome's figures. Comes out: sentences: what each finalist gains, and what is said of the whole."""

from __future__ import annotations

from nas import wording
from nas.interval import Interval
from nas.outcome import CANDIDATE, LOSS, Entry, Outcome, winner

POINT = 0.01  # of the score; what people call one mAP


def entry(e: Entry, metric: str) -> str:
    """What is said of one: ``Gains 1.4 ± 0.5 points of mAP50-95 for 3% more latency.``"""
    if e.gain is None:
        return f"Not judged: {e.reason}." if e.reason else ""
    price = f" for {cost(e)}" if e.latency else ""
    if e.gain.low > 0:
        return f"Gains {plus_minus(e.gain)} points of {metric}{price}."
    if e.gain.high < 0:
        return f"Loses {plus_minus(negative(e.gain))} points of {metric}{price}."
    return f"Not shown to differ from the base: {between(e.gain)} points of {metric}{price}."


def whole(told: Outcome, over_random: Interval | None, half: int | None = None) -> tuple[str, ...]:
    """The verdict first, then what it rests on and what it is worth beside the controls.

    Args:
        told: All but its sentences.
        over_random: The candidates' mean gain over random placements.
        half: Seeds with which a gain of half a point would be told.
    """
    judged = [e for e in told.of(CANDIDATE) if e.gain]
    first, about = headline(told, judged)
    found = [first]
    if about is not None and about.over_convolution is not None:
        found.append(beside_convolutions(about))
    if over_random is not None:
        found.append(beside_random(over_random, len(judged)))
    open_ = sum(e.gain is not None and e.gain.low <= 0 <= e.gain.high for e in judged)
    if open_:
        found.append(how_to_tell(open_, told.advice, len(told.seeds), half))
    failed = [e for e in told.of(CANDIDATE) if e.gain is None]
    found += [f"{e.label} is not judged: {e.reason}." for e in failed]
    return tuple(found)


def headline(told: Outcome, judged: list[Entry]) -> tuple[str, Entry | None]:
    """The verdict, and the candidate that it is about: the one that is shown to gain most."""
    where = f"on {told.split}"
    known = [e for e in judged if e.gain]
    best = winner(told)
    if best is not None and best.gain is not None:
        more = sum(e.gain is not None and e.gain.low > 0 for e in known)
        others = f" {more} of {len(known)} finalists are shown to gain." if len(known) > 1 else ""
        price = f" for {cost(best)}" if best.latency else ""
        return f"{best.label} gains {plus_minus(best.gain)} points of {told.metric} {where}{price}.{others}", best
    if told.outcome == LOSS:
        return f"The base is best: every finalist is shown to lose {told.metric} {where}.", None
    most = max(0.0, *(e.gain.high for e in known if e.gain)) / POINT
    who = "the one finalist gains at most" if len(known) == 1 else f"of {len(known)} finalists none gains more than"
    return (
        f"No placement beats the base beyond noise: {who} {most:.1f} points of {told.metric} {where}, with 95%.",
        None,
    )


def beside_convolutions(e: Entry) -> str:
    """Whether it is attention that pays, or any layer of that cost."""
    over = e.over_convolution
    assert over is not None
    same = "plain convolutions of the same GFLOPs at the same sites"
    if over.low > 0:
        return f"That is {plus_minus(over)} points more than {same} gain."
    if over.high < 0:
        return f"It is {plus_minus(negative(over))} points less than {same} gain: capacity pays here, not attention."
    return f"Whether it takes attention is open: {between(over)} points over {same}."


def beside_random(over: Interval, candidates: int) -> str:
    """What searching was worth."""
    who = "The finalists gain" if candidates > 1 else "The finalist gains"
    if over.low > 0:
        return f"{who} {plus_minus(over)} points more than random placements do on average: the search was worth it."
    if over.high < 0:
        return f"{who} {plus_minus(negative(over))} points less than random placements do on average."
    return (
        f"Whether searching beats drawing at random is open: {who.lower()} {between(over)} points over the mean of "
        f"random placements."
    )


def how_to_tell(candidates: int, seeds: int | None, had: int, half: int | None) -> str:
    """What it would take to know.

    Args:
        seeds: With how many those that may gain a point would be told; ``had`` where there are none, None where no
            number would do.
        half: With how many a gain of half a point would be told, of the noisiest that may have one.
    """
    who = "one finalist it is open whether it gains"
    who = who if candidates == 1 else f"{candidates} finalists it is open whether they gain"
    if seeds is None:
        return f"Of {who}: not even 30 seeds would tell."
    if seeds > had:
        return f"Of {who}; {seeds} seeds would probably tell more: `--seeds {seeds}` adds the missing ones."
    if half is None:
        return f"Of {who}; a whole point it is not, and not even 30 seeds would tell half a point."
    if half <= had:
        return f"Of {who}; half a point it is not."
    return f"Of {who}; a whole point it is not. {half} seeds would probably tell half a point: `--seeds {half}`."


def cost(e: Entry) -> str:
    """``29% more latency``."""
    assert e.latency is not None
    change = 100 * (e.latency.value - 1)
    if abs(change) < 0.5:
        return "no more latency"
    return f"{abs(change):.0f}% {'more' if change > 0 else 'less'} latency"


def plus_minus(found: Interval) -> str:
    """``1.4 ± 0.5`` in points."""
    return f"{found.value / POINT:.1f} ± {(found.high - found.value) / POINT:.1f}"


def between(found: Interval) -> str:
    """``between −0.2 and +0.7`` in points."""
    return f"between {wording.points(found.low)} and {wording.points(found.high)}"


def negative(found: Interval) -> Interval:
    """The same loss as a figure above 0."""
    return Interval(-found.value, -found.high, -found.low)
