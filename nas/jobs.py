"""Goes in: a Setting, its warm base, and placements. Comes out: rows of every training, kept as it ends.

For whoever trains the same placements under several seeds or budgets (`correlate`, the protocol's and the public
table). A search goes through :mod:`nas.objective`. Run as ``python -m nas.jobs`` it is one of the processes that train.
"""

from __future__ import annotations

import csv
import io
import os
import platform
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import ultralytics

from nas import cost, export, graph, locks, recipe, train, weights
from nas.children import Child, Parent, stop
from nas.errors import InputError
from nas.protocol import Protocol
from nas.recipe import Recipe
from nas.score import Score
from nas.setting import Setting, prepare
from nas.train import TrainingFailed
from nas.warm import WarmBase, overrides_of, warm_base
from search_spaces import Placement

KEY = ("placement_id", "seed")
FACTS = ("val_loss", "gamma", "batches_sha", "seconds", "recipe", "device", "versions", "reason")
OF_THE_SEARCH = (  # of a study's identity: what decides no training
    "sampler", "rungs", "startup", "objectives", "space", "space_hash", "latency_runs", "latency_runtime",
    "latency_backend", "max_gflops", "max_latency_ms", "max_params",
)  # fmt: skip
OF_THE_JOB = ("epochs", "block_lr_factor", "freeze")  # what a job says itself
OF_THE_MACHINE = ("device", "torch", "ultralytics")
VERSIONS = f"python {platform.python_version()}, torch {torch.__version__}, ultralytics {ultralytics.__version__}"
PAUSE = 0.05  # seconds between looks at what the processes say


class JobsError(InputError):
    """A file that holds trainings of something else."""


@dataclass(frozen=True)
class Job:
    """One training.

    Args:
        placement: What is trained.
        seed: Of its blocks' weights and of the order of the pictures.
        epochs: Its length.
        at: Shares of it in (0, 1) after which it is scored as well.
        protocol: Instead of the recipe's.
        resamples: Other draws of the images for which the score is taken as well.
        keep: Where the trained weights go, as a checkpoint; None for nowhere.
    """

    placement: Placement
    seed: int
    epochs: int
    at: tuple[float, ...] = ()
    protocol: Protocol | None = None
    resamples: int = 0
    keep: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by in a file."""
        return self.placement.id, str(self.seed)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self) | {"placement": self.placement.to_json()}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Job:
        """The inverse of :meth:`to_json`."""
        protocol = Protocol(**data["protocol"]) if data["protocol"] else None
        read = {"placement": Placement.from_json(data["placement"]), "at": tuple(data["at"]), "protocol": protocol}
        return Job(**data | read)


def digest(setting: Setting, job: Job) -> str:
    """Twelve hexadecimal digits of all that decides a job's numbers beside placement, seed and machine."""
    kept = {k: v for k, v in setting.identity.items() if k not in OF_THE_SEARCH + OF_THE_JOB + OF_THE_MACHINE}
    protocol = asdict(job.protocol or setting.recipe.protocol)
    kept |= {"resamples": job.resamples} if job.resamples else {}
    return recipe.digest(kept | {"protocol": protocol, "epochs": job.epochs, "at": list(job.at)})


def columns(setting: Setting, resamples: int = 0) -> tuple[str, ...]:
    """Of a file: the score is called as the task's trials.csv calls it."""
    score = setting.task.columns[0]
    more = (f"{score}_of_other_images",) if resamples else ()
    return (*KEY, "placement", "images", score, f"nms_free_{score}", *FACTS, *more)


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
    overrides = overrides_of(setting, job.epochs) | {"seed": job.seed}
    trained, score = train.short_train(
        model,
        overrides,
        protocol=job.protocol or r.protocol,
        at=job.at,
        resamples=job.resamples,
        log=setting.log,
    )
    if job.keep:
        Path(job.keep).parent.mkdir(parents=True, exist_ok=True)
        export.save(Path(job.keep), trained, overrides | {"data": str(setting.dataset.named)})
    return score


def rows(setting: Setting, job: Job, score: Score) -> list[dict[str, Any]]:
    """A row for every point of the curve: scores in [0, 1], ``seconds`` of the whole training."""
    name = setting.task.columns[0]
    shared = _shared(setting, job) | {
        "gamma": " ".join(f"{g:.4f}" for g in score.gamma.values()),
        "batches_sha": score.batches_sha,
        "seconds": f"{score.seconds['total']:.1f}",
    }
    return [
        shared
        | {
            "images": int(point["images"] or 0),
            name: f"{point['value']:.6f}",
            f"nms_free_{name}": "" if point["nms_free"] is None else f"{point['nms_free']:.6f}",
            "val_loss": f"{point['loss']:.5f}",
        }
        | ({f"{name}_of_other_images": " ".join(f"{v:.6f}" for v in score.resampled)} if job.resamples else {})
        for point in score.curve
    ]


def failed(setting: Setting, job: Job, reason: str) -> list[dict[str, Any]]:
    """The row of a training that gave no number."""
    return [_shared(setting, job) | {"reason": " ".join(reason.split())[:300]}]


def _shared(setting: Setting, job: Job) -> dict[str, Any]:
    return dict.fromkeys(columns(setting, job.resamples), "") | {
        "placement_id": job.placement.id,
        "seed": job.seed,
        "placement": job.placement.label,
        "recipe": digest(setting, job),
        "device": cost.device_name(setting.device),
        "versions": VERSIONS,
    }


def missing(setting: Setting, planned: Sequence[Job], file: Path) -> list[Job]:
    """The jobs that a file does not have whole; one that failed is missing.

    Raises:
        JobsError: The file has one of them by another recipe.
    """
    if not file.is_file():
        return list(planned)
    with file.open(newline="", encoding="utf-8") as text:
        read = [row for row in csv.DictReader(text) if not row.get("reason")]
    have: dict[tuple[str, str], list[str]] = {}
    for row in read:
        have.setdefault((row["placement_id"], row["seed"]), []).append(row.get("recipe", ""))
    digests: dict[Job, str] = {}
    for job in planned:
        like = Job(Placement(), 0, job.epochs, job.at, job.protocol, job.resamples)
        wanted = digests.setdefault(like, digest(setting, like))
        if set(have.get(job.key, [wanted])) != {wanted}:
            raise JobsError(
                f"{file}: {job.placement.label}, seed {job.seed}, was trained by another recipe there; "
                "choose another folder, or move that file away"
            )
    return [job for job in planned if len(have.get(job.key, ())) != len(job.at) + 1]


def run_all(
    setting: Setting, warm: WarmBase, planned: Sequence[Job], file: Path, workers: int = 1, threads: int = 1
) -> Iterator[list[dict[str, Any]]]:
    """Run what ``file`` does not have yet and add its rows to it, a training at a time; give them back as they come.

    Args:
        setting, warm: What all trainings share.
        planned: In the order in which they are begun; all of one number of ``resamples``.
        file: CSV with :func:`columns`; what it has whole is not run again. One process at a time works on it.
        workers: Processes.
        threads: CPU threads of each.

    Raises:
        JobsError: The file has other trainings.
        TrainingFailed: No process could start.
    """
    with locks.of_file(file):
        waiting = mend(setting, planned, file)[::-1]
        if not waiting:
            return
        train.scan(warm.model, overrides_of(setting, 1), setting.log)  # processes that write label caches at once trip
        told = {
            "recipe": setting.recipe.model_dump(mode="json"),
            "base_cost": setting.base_cost.to_json(),
            "reporting": setting.dataset == setting.reported,
        }
        crew: dict[Child, Job | None] = {}
        try:
            while waiting or any(crew.values()):
                while len(crew) < min(workers, len(waiting) + sum(map(bool, crew.values()))):
                    crew[Child("nas.jobs", told, threads, setting.log)] = None
                for child in list(crew):
                    found = _heard(setting, crew, child, waiting)
                    if found:
                        append(file, found, columns(setting, planned[0].resamples))
                        yield found
                time.sleep(PAUSE)
        finally:
            stop(list(crew), patience=2.0)


def _heard(
    setting: Setting, crew: dict[Child, Job | None], child: Child, waiting: list[Job]
) -> list[dict[str, Any]] | None:
    """The rows that a process has told, and a new job for it; where it has died, the reason as a row."""
    ended = not child.running
    message = child.hear(0.5 if ended else 0.0)
    if message is not None:
        crew[child] = waiting.pop() if waiting else None
        if (job := crew[child]) is not None:
            child.tell(job.to_json())
        return message.get("rows")
    if not ended:
        return None
    job = crew.pop(child)
    if job is None:
        raise TrainingFailed(f"a process that trains could not start ({child.how}); see {setting.log}")
    return failed(setting, job, f"its process died ({child.how})")


def mend(setting: Setting, planned: Sequence[Job], file: Path) -> list[Job]:
    """Cut off what a crash has left of a training at the end; the jobs that are missing then.

    Raises:
        JobsError: The file has one of them by another recipe.
    """
    if file.is_file():
        lines = file.read_bytes()
        _rewrite(file, lines[: lines.rfind(b"\n") + 1])
    left = missing(setting, planned, file)
    gone = {job.key for job in left}
    if file.is_file() and gone:
        with file.open(newline="", encoding="utf-8") as text:
            header, *rest = csv.reader(text)
        at = [header.index(name) for name in (*KEY, "reason")]
        kept = [row for row in rest if row[at[2]] or (row[at[0]], row[at[1]]) not in gone]
        with io.StringIO(newline="") as text:
            csv.writer(text, lineterminator="\n").writerows([header, *kept])
            _rewrite(file, text.getvalue().encode())
    return left


def _rewrite(file: Path, content: bytes) -> None:
    """Replace a file's content, whole or not at all; a file with none goes."""
    if not content:
        file.unlink()
    elif content != file.read_bytes():
        part = file.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(content)
        part.replace(file)


def append(file: Path, found: Iterable[dict[str, Any]], header: Sequence[str]) -> None:
    """Add rows to a CSV, all of a training at once."""
    new = not file.is_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", newline="", encoding="utf-8") as text:
        out = csv.DictWriter(text, header, lineterminator="\n")
        if new:
            out.writeheader()
        out.writerows(found)
        text.flush()
        os.fsync(text.fileno())


def one(setting: Setting, warm: WarmBase, job: Job) -> list[dict[str, Any]]:
    """The rows of a training, or of its failure, whatever a block raises."""
    try:
        return rows(setting, job, run(setting, warm, job))
    except Exception as e:
        traceback.print_exc()
        return failed(setting, job, str(e) if isinstance(e, TrainingFailed) else f"{type(e).__name__}: {e}")


def main() -> None:
    """One of the processes: hear what all trainings share, then train job by job."""
    parent = Parent()
    told = parent.hear()
    setting = prepare(Recipe.model_validate(told["recipe"]), cost.Cost.from_json(told["base_cost"]))
    setting.folder.mkdir(parents=True, exist_ok=True)
    warm = warm_base(setting)
    setting = setting.reporting() if told["reporting"] else setting
    parent.tell(ready=True)
    while True:
        parent.tell(rows=one(setting, warm, Job.from_json(parent.hear())))


if __name__ == "__main__":
    main()
