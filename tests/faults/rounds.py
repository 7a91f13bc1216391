"""Goes in: a kind of fault. Comes out: one round of it: a search disturbed, brought to its end, and judged.

A round checks from the database that every trial that was finished at any moment is there with its values, that no
placement was trained twice to the same rung, that exactly the asked number is there, that nothing runs, and, where all
placements of the space were asked for and none of them is broken, that the front is that of an undisturbed search.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from optuna.trial import TrialState

from faults import instant
from faults.world import WHOLE, Search, World, finished, front, reached, scores, wait, wait_until

BROKEN = ("memory@build", "memory@train", "memory@validate", "host memory@train", "nan@train", "raise@train",
          "raise@build", "shape@train", "hang@train", "crash@train", "exit@train")  # fmt: skip
LABELS = ("backbone.p4=eca", "backbone.p4=simam", "neck.p3=eca", "neck.p3=simam")


@dataclass(frozen=True)
class Place:
    """Where a round takes place.

    Args:
        world: What is searched.
        home: Folder for its study's.
        postgres: A server that may be stopped; None for SQLite only.
        draw: Random numbers of the round.
    """

    world: World
    home: Path
    postgres: Any
    draw: random.Random

    def search(self, name: str, postgres: bool | None = None, folder: Path | None = None, **values: Any) -> Search:
        """A search, its study in SQLite or PostgreSQL: by lot, where it is not said."""
        use = self.postgres is not None and (self.draw.random() < 0.5 if postgres is None else postgres)
        home = folder or self.home / name
        url = self.postgres.url if use else f"sqlite:///{home / 'study.db'}"
        instant.WITNESS[:] = [self.home / f"{name}.witness"]
        return Search(self.world, name, url, home, **values)


@dataclass(frozen=True)
class Verdict:
    """What a round came to: counts of what must be 0, and what is only told."""

    kind: str
    storage: str
    finished: int
    lost: int
    twice: int
    missed: int
    running: int
    other_front: int
    repeated: int
    seconds: float
    starts: int


def judge(
    kind: str, search: Search, seen: dict[int, Any], started: float, starts: int, whole: bool, asked: int | None = None
) -> Verdict:
    """Compare the database at the end with what was seen, and with what was asked.

    Args:
        seen: What was finished at some moment.
        whole: Whether the front must be that of an undisturbed search.
        asked: Placements that must have been trained, where they are not the search's own number.
    """
    trials = search.trials_now()
    now, steps = finished(trials), reached(trials)
    lines = instant.WITNESS[0].read_text().splitlines() if instant.WITNESS[0].exists() else []
    trained = [tuple(line.split()[:2]) for line in lines]
    return Verdict(
        kind,
        "postgresql" if search.url.startswith("postgresql") else "sqlite",
        len(now),
        sum(now.get(number) != what for number, what in seen.items()),
        len(steps) - len(set(steps)),
        abs((asked or search.trials) - len({placement for placement, _ in steps})),
        sum(t.state in (TrialState.RUNNING, TrialState.WAITING) for t in trials),
        int(whole and comes_to(search, trials) != expected(search)),
        len(trained) - len(set(trained)),
        time.monotonic() - started,
        starts,
    )


FRONT: dict[Path, set[Any]] = {}


def comes_to(search: Search, trials: list[Any]) -> set[Any]:
    """What must not depend on what happened: the front; of real trainings, whose latencies are measured, the scores."""
    return scores(trials) if search.world.base else front(trials)


def expected(search: Search) -> set[Any]:
    """What an undisturbed search of the whole space comes to."""
    if search.world.home not in FRONT:
        witness = instant.WITNESS[:]
        calm = Search(
            search.world, "calm", f"sqlite:///{search.world.home / 'calm' / 'study.db'}", search.world.home / "calm"
        )
        instant.WITNESS[:] = [search.world.home / "calm.witness"]
        calm.finish(None)
        FRONT[search.world.home] = comes_to(calm, calm.trials_now())
        instant.WITNESS[:] = witness
    return FRONT[search.world.home]


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """The workers of a supervisor."""
    with contextlib.suppress(psutil.Error):
        return [p for p in process.children() if p.status() != psutil.STATUS_ZOMBIE]
    return []


def under_way(least: int) -> bool:
    """Whether so many trainings have come to their end."""
    witness = instant.WITNESS[0]
    return wait_until(lambda: least <= (len(witness.read_text().splitlines()) if witness.exists() else 0), 30)


def a_moment(place: Place, search: Search) -> dict[int, Any]:
    """Let it come somewhere; what is finished by then."""
    under_way(place.draw.randint(0, search.trials // 2))
    time.sleep(place.draw.uniform(0, 0.25))
    return finished(search.trials_now())


def hit(place: Place, process: psutil.Process, who: str, number: signal.Signals) -> None:
    """Send a signal to the supervisor or to one of its workers; who is stopped goes on later, or never."""
    victims = [process] if who == "supervisor" else workers_of(process)
    if not victims:
        return
    victim = place.draw.choice(victims)
    with contextlib.suppress(psutil.Error):
        victim.send_signal(number)
        if number == signal.SIGSTOP and (who == "supervisor" or place.draw.random() < 0.5):
            time.sleep(place.draw.uniform(0.3, 2.0))
            victim.send_signal(signal.SIGCONT if place.draw.random() < 0.7 or who == "worker" else signal.SIGKILL)


def signals(who: str, number: signal.Signals) -> Callable[[Place, str], Verdict]:
    """Rounds of one signal."""

    def round_of(place: Place, name: str) -> Verdict:
        whole = place.draw.random() < 0.6
        search = place.search(name, rungs=1 if whole else 2)
        started, process, seen = time.monotonic(), search.start(), dict[int, Any]()
        for _ in range(place.draw.randint(1, 2)):
            seen |= a_moment(place, search)
            hit(place, process, who, number)
            if who == "supervisor":
                break
        starts = 1 + search.finish(process)
        return judge(f"{number.name} of {who}", search, seen, started, starts, whole)

    return round_of


def two_searches(place: Place, name: str) -> Verdict:
    """Two started on one study at once; in half of the rounds one of them is killed."""
    search = place.search(name)
    started, both = time.monotonic(), [search.start(), search.start()]
    seen = a_moment(place, search)
    if killed := place.draw.random() < 0.5:
        with contextlib.suppress(psutil.Error):
            both[0].send_signal(place.draw.choice([signal.SIGKILL, signal.SIGTERM]))
    first, second = (wait(process, 60) for process in both)
    if second != 0 or (first != 0 and not killed):
        raise AssertionError(f"two searches ended with {first} and {second}: {search.said()}")
    return judge("two searches on one study", search, seen, started, 2, whole=True)


def database(how: str) -> Callable[[Place, str], Verdict]:
    """Rounds in which PostgreSQL restarts, or is gone for a while."""

    def round_of(place: Place, name: str) -> Verdict:
        search = place.search(name, postgres=True, rungs=place.draw.choice([1, 1, 2]))
        started, process = time.monotonic(), search.start()
        seen = a_moment(place, search)
        place.postgres.stop(place.draw.choice(["fast", "immediate"]))
        time.sleep(
            {"restarts": 0.0, "is gone for seconds": place.draw.uniform(2, 8), "is gone for a minute": 60.0}[how]
        )
        place.postgres.start()
        starts = 1 + search.finish(process, seconds=150)
        return judge(f"PostgreSQL {how}", search, seen, started, starts, whole=search.rungs == 1)

    return round_of


@contextlib.contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A small disk of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "nas", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def full_disk(place: Place, name: str) -> Verdict:
    """The study's disk fills up, and has room again a while later."""
    with disk(place.home / f"{name}-disk", 32) as root:
        search = place.search(name, folder=root / name)
        started, process = time.monotonic(), search.start()
        seen = a_moment(place, search)
        filler = root / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(b"x" * 65536)
        time.sleep(place.draw.uniform(0.5, 3))
        filler.unlink()
        starts = 1 + search.finish(process, seconds=120)
        return judge("full disk", search, seen, started, starts, whole=True)


def read_only(place: Place, name: str) -> Verdict:
    """The study's disk can only be read for a while."""
    with disk(place.home / f"{name}-disk", 32) as root:
        search = place.search(name, folder=root / name)
        started, process = time.monotonic(), search.start()
        seen = a_moment(place, search)
        # what is being written would keep the mount busy: a file that is open for writing
        for _ in range(200):
            if not subprocess.run(["mount", "-o", "remount,ro", str(root)], capture_output=True).returncode:
                break
            time.sleep(0.01)
        time.sleep(place.draw.uniform(0.5, 3))
        subprocess.run(["mount", "-o", "remount,rw", str(root)], check=True)
        starts = 1 + search.finish(process, seconds=120)
        return judge("read-only output", search, seen, started, starts, whole=True)


def broken(does: str) -> Callable[[Place, str], Verdict]:
    """One placement of the space is broken: it fails once, with its reason, and all others are trained."""

    def round_of(place: Place, name: str) -> Verdict:
        label = place.draw.choice(LABELS)
        timeout = 2.0 if does.startswith("hang") else None
        search = place.search(name, does={label: does}, timeout=timeout)
        started = time.monotonic()
        starts = search.finish(None)
        told = f"a placement: {does.replace('@', ' in ')}"
        verdict = judge(told, search, {}, started, starts, whole=False, asked=WHOLE - 1)
        failed = [
            t for t in search.trials_now() if "error" in t.user_attrs and t.user_attrs.get("label", label) == label
        ]
        assert len(failed) == 1, f"{does}: {[t.user_attrs.get('error') for t in search.trials_now()]}"
        return verdict

    return round_of


def truncated_state(place: Place, name: str) -> Verdict:
    """The state of a paused training is cut in half: it cannot go on, and all else does."""
    search = place.search(name, rungs=2)
    started, process = time.monotonic(), search.start()
    seen = a_moment(place, search)
    for file in (search.folder / "paused").glob("*.pt"):
        with contextlib.suppress(OSError):
            os.truncate(file, file.stat().st_size // 2)
    starts = 1 + search.finish(process)
    return judge("truncated checkpoint", search, seen, started, starts, whole=False)


def dataset_changes(place: Place, name: str) -> Verdict:
    """An image changes under the search, which stops; put back, it goes on."""
    search = place.search(name)
    started, process = time.monotonic(), search.start()
    seen = a_moment(place, search)
    image = next((place.world.home / "data" / "images" / "train").glob("*.png"))
    before = image.stat()
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    code = wait(process, 60)
    told = (search.folder.parent / f"{name}.supervisor").read_text()
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert code == 0 or (code == 1 and "the dataset changed under the search" in told), told[-2000:]
    starts = 1 + (search.finish(None) if code else 0)
    return judge("dataset changes", search, seen, started, starts, whole=True)


def clock_jumps(place: Place, name: str) -> Verdict:
    """The clock jumps forth or back by hours."""
    search = place.search(name)
    started, process = time.monotonic(), search.start()
    seen = a_moment(place, search)
    clock = place.world.home / "clock"
    clock.write_text(str(place.draw.choice([30 * 86400, 5 * 3600, 400, -400, -2 * 3600, -30 * 86400])))
    starts = 1 + search.finish(process)
    clock.write_text("0")
    return judge("clock jumps", search, seen, started, starts, whole=True)


SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP)
KINDS: dict[str, Callable[[Place, str], Verdict]] = {
    **{f"{n.name} of {who}": signals(who, n) for who in ("worker", "supervisor") for n in SIGNALS},
    "two searches": two_searches,
    **{f"PostgreSQL {how}": database(how) for how in ("restarts", "is gone for seconds", "is gone for a minute")},
    "full disk": full_disk,
    "read-only output": read_only,
    **{does: broken(does) for does in BROKEN},
    "truncated checkpoint": truncated_state,
    "dataset changes": dataset_changes,
    "clock jumps": clock_jumps,
}
