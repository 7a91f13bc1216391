"""What finalists, their controls and the base reached, and what is said of it: kept with the study for every page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from nas.interval import Interval

BASE, CANDIDATE, RANDOM, CONVOLUTION = "base", "candidate", "random", "convolution"  # what an entry is there for
ATTRIBUTE = "finalists"  # of a study: its Outcome as JSON
PROGRESS = "finalists_progress"  # of a study, while they train: done, of, minutes left, the command that goes on
GAIN, NONE, LOSS = "gain", "none", "loss"  # what the verdict is; a loss: every candidate is shown to be below the base


@dataclass(frozen=True)
class Entry:
    """A placement in the final comparison. Scores and gains in [0, 1], over the base under the same seeds.

    Args:
        role: Why it is there: ``base``, ``candidate`` of the search's front, ``random`` placement of the space, or
            plain ``convolution`` in place of a candidate's blocks.
        label: Its blocks and their sites.
        trial: Number of the candidate's trial in the search.
        stands_for: Of a convolution: the candidate's placement id.
        latency: Over the base's, mean of all passes.
        latency_ms: The same in milliseconds, of the fastest pass.
        scores: One a seed; empty where a training failed.
        searched: Gain that the search's own single training showed.
        gain: Mean over the seeds; the intervals of all candidates hold at once.
        over_random, over_convolution: A candidate's gain over the mean random placement, and over its convolution.
        front: Probability that it stands on the Pareto front of all entries.
        reason: Why there are no scores.
    """

    role: str
    placement_id: str
    placement: Mapping[str, Any]
    label: str
    params: int
    gflops: float
    trial: int | None = None
    stands_for: str | None = None
    latency: Interval | None = None
    latency_ms: float | None = None
    scores: tuple[float, ...] = ()
    searched: float | None = None
    gain: Interval | None = None
    over_random: Interval | None = None
    over_convolution: Interval | None = None
    front: float | None = None
    sentence: str = ""
    reason: str | None = None

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Entry:
        """The inverse of ``dataclasses.asdict``."""
        known = {f.name for f in fields(Entry)}
        read = {k: v for k, v in data.items() if k in known} | {"scores": tuple(data["scores"])}
        for key in ("latency", "gain", "over_random", "over_convolution"):
            read[key] = Interval(**data[key]) if data.get(key) else None
        return Entry(**read)


@dataclass(frozen=True)
class Outcome:
    """The final comparison of a study.

    Args:
        metric: What is compared, such as mAP50-95.
        split: The images that it is told on, in words; ``search_split`` those that the search saw.
        images: How many images ``split`` has.
        head: The head that is scored.
        epochs: Of every training here; ``seeds`` of each placement.
        noise: Standard deviation of one candidate's gain under one seed, the median one.
        outcome: ``gain``, ``none`` or ``loss``.
        sentences: What is said of the whole, the verdict first.
        entries: The base first, then candidates by their gain, then controls.
        latency: How it was measured: device, backend, dtype, threads, passes, pairs a pass.
        command: What made it.
        recipe: The study's digest; ``versions`` of the packages.
        advice: Seeds with which the candidates that are open would probably be told; None where not even 30 would.
    """

    metric: str
    split: str
    search_split: str
    images: int
    head: str
    epochs: int
    seeds: tuple[int, ...]
    noise: float
    outcome: str
    sentences: tuple[str, ...]
    entries: tuple[Entry, ...]
    latency: Mapping[str, Any]
    command: str
    recipe: str
    versions: Mapping[str, str]
    advice: int | None = None

    def of(self, role: str) -> list[Entry]:
        """The entries of a role, in order."""
        return [e for e in self.entries if e.role == role]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Outcome:
        """The inverse of :meth:`to_json`."""
        read = {f.name: data[f.name] for f in fields(Outcome) if f.name in data}
        entries = tuple(Entry.from_json(e) for e in data["entries"])
        lists = {k: tuple(data[k]) for k in ("seeds", "sentences")}
        return Outcome(**read | lists | {"entries": entries})


def of_study(study: Any) -> Outcome | None:
    """What the finalists of a study came to; None before they were trained."""
    found = study.user_attrs.get(ATTRIBUTE)
    return Outcome.from_json(found) if found else None


def winner(found: Outcome) -> Entry | None:
    """The candidate that is shown to gain most, by its lower bound; None where none is."""
    sure = [e for e in found.of(CANDIDATE) if e.gain is not None and e.gain.low > 0]
    return max(sure, key=lambda e: e.gain.low if e.gain else 0.0) if sure else None


def of_trial(study: Any, number: int) -> dict[str, Any] | None:
    """What the finalists came to for one of them, as JSON for its card; None for any other trial."""
    found = of_study(study)
    entries = [e for e in found.entries if e.trial == number and e.role == CANDIDATE and e.gain] if found else []
    if not found or not entries:
        return None
    facts = {k: getattr(found, k) for k in ("metric", "split", "images", "epochs", "seeds")}
    kept = ("gain", "over_random", "over_convolution", "latency", "front", "scores", "sentence")
    return facts | {k: v for k, v in asdict(entries[0]).items() if k in kept}
