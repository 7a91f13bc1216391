"""Goes in: a Setting, its warm base, and placements. Comes out: rows of every training, kept as it ends.

For whoever trains the same placements under several seeds or budgets (`correlate`, the protocol's and the public
table). A search goes through :mod:`nas.objective`.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nas import graph, train, weights
from nas.protocol import Protocol
from nas.recipe import Recipe
from nas.score import Score
from nas.setting import Setting, prepare
from nas.warm import WarmBase, overrides_of, warm_base
from search_spaces import Placement

KEY = ("placement_id", "seed")
COLUMNS = (
    *KEY, "placement", "images", "map50_95", "nms_free_map50_95", "val_loss", "gamma", "batches_sha", "seconds",
    "reason",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One training.

    Args:
        placement: What is trained.
        seed: Of its blocks' weights and of the order of the pictures.
        epochs: Its length.
        at: Shares of it in (0, 1) after which it is scored as well.
        protocol: Instead of the recipe's.
    """

    placement: Placement
    seed: int
    epochs: int
    at: tuple[float, ...] = ()
    protocol: Protocol | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by in a file."""
        return self.placement.id, str(self.seed)


def run(setting: Setting, warm: WarmBase, job: Job) -> Score:
    """Build, carry the weights over, train, and score.

    Raises:
        TrainingFailed: With its reason.
        WeightError, GraphError: The placement does not fit.
    """
    r = setting.recipe
    graft = graph.insert(setting.yaml, job.placement, r.wire)
    model = weights.build(graft.yaml, setting.dataset.names, setting.dataset.channels, job.seed)
    weights.transfer(warm.model, model, graft.moved, job.seed)
    _, score = train.short_train(
        model,
        overrides_of(setting, job.epochs) | {"seed": job.seed},
        protocol=job.protocol or r.protocol,
        at=job.at,
        log=setting.log,
    )
    return score


def rows(job: Job, score: Score) -> list[dict[str, Any]]:
    """A row for every point of the curve: scores in [0, 1], ``seconds`` of the whole training."""
    return [
        {
            "placement_id": job.placement.id,
            "seed": job.seed,
            "placement": job.placement.label,
            "images": int(point["images"] or 0),
            "map50_95": f"{point['value']:.6f}",
            "nms_free_map50_95": "" if point["nms_free"] is None else f"{point['nms_free']:.6f}",
            "val_loss": f"{point['loss']:.5f}",
            "gamma": " ".join(f"{g:.4f}" for g in score.gamma.values()),
            "batches_sha": score.batches_sha,
            "seconds": f"{score.seconds['total']:.1f}",
            "reason": "",
        }
        for point in score.curve
    ]


def failed(job: Job, reason: str) -> list[dict[str, Any]]:
    """The row of a training that gave no number."""
    facts = {"placement_id": job.placement.id, "seed": job.seed, "placement": job.placement.label}
    return [dict.fromkeys(COLUMNS, "") | facts | {"reason": " ".join(reason.split())[:300]}]


def done(file: Path) -> set[tuple[str, str]]:
    """Keys of the trainings that a file has whole."""
    if not file.is_file():
        return set()
    with file.open(newline="", encoding="utf-8") as text:
        return {(row["placement_id"], row["seed"]) for row in csv.DictReader(text)}


def run_all(
    recipe: Recipe, jobs: Sequence[Job], file: Path, workers: int = 1, threads: int = 1
) -> Iterator[list[dict[str, Any]]]:
    """Run what ``file`` does not have yet and add its rows to it, a training at a time; give them back as they come.

    Args:
        recipe: What all trainings share.
        jobs: In the order in which they are begun.
        file: CSV with :data:`COLUMNS`; what is in it is not run again.
        workers: Processes.
        threads: CPU threads of each.
    """
    missing = [job for job in jobs if job.key not in done(file)]
    if not missing:
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _begin, (recipe, threads)) as pool:
        futures: dict[Future[list[dict[str, Any]]], Job] = {pool.submit(_one, job): job for job in missing}
        try:
            for future in as_completed(futures):
                found = future.result()
                append(file, found)
                yield found
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def append(file: Path, found: Iterable[dict[str, Any]]) -> None:
    """Add rows to a CSV, all of a training at once."""
    new = not file.is_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", newline="", encoding="utf-8") as text:
        out = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        if new:
            out.writeheader()
        out.writerows(found)
        text.flush()
        os.fsync(text.fileno())


_here: list[tuple[Setting, WarmBase]] = []


def _begin(recipe: Recipe, threads: int) -> None:
    end_with(os.getppid())
    setting = prepare(recipe)
    torch.set_num_threads(threads)
    setting.folder.mkdir(parents=True, exist_ok=True)
    _here.append((setting, warm_base(setting)))


def end_with(parent: int) -> None:
    """End this process soon after ``parent`` is gone: a worker that nobody listens to must not go on training."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _one(job: Job) -> list[dict[str, Any]]:
    setting, warm = _here[-1]
    try:
        return rows(job, run(setting, warm, job))
    except (train.TrainingFailed, weights.WeightError, graph.GraphError) as e:
        return failed(job, str(e))
