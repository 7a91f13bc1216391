"""Goes in: a folder. Comes out: a search in it that can be started, disturbed and judged by its database."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import psutil
from conftest import TINY, make_dataset, write_recipe
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from faults import instant
from faults.forked import ForkChild, run
from nas import announce, crew, preflight, recipe, setting, steady, storage, turn, warm, workers
from nas import study as studies
from nas.display import Display
from nas.setting import Setting

SPACE = "max_blocks: 1\nblocks: [eca, simam]\nsites: [backbone.p4, neck.p3]\n"
WHOLE = 5  # its placements, the base among them
SILENCE, ALIVE, GRACE = 3.0, 0.3, 6.0  # seconds: the product's are 120, 5 and 90


@dataclass(frozen=True)
class World:
    """What all rounds share.

    Args:
        home: Folder of dataset, base and space.
        prepared: What is searched, checked once.
        base: Of real trainings; None for instant ones.
    """

    home: Path
    prepared: Setting
    base: Any = None


@dataclass
class Search:
    """One round's search.

    Args:
        world: Of it.
        name: Of the study; its folder is of the same name.
        url: Its storage.
        trials: Asked.
        rungs: Of a training.
        workers: Of a supervisor.
        timeout: Seconds that a trial may take.
    """

    world: World
    name: str
    url: str
    folder: Path
    trials: int = WHOLE
    rungs: int = 1
    workers: int = 2
    timeout: float | None = None
    does: Mapping[str, str] = field(default_factory=dict)

    @property
    def prepared(self) -> Setting:
        """What its processes share."""
        r = self.world.prepared.recipe.model_copy(
            update={
                "name": self.name, "storage": self.url, "output": str(self.folder.parent), "trials": self.trials,
                "rungs": self.rungs, "slots": self.workers, "trial_timeout": self.timeout,
            }
        )  # fmt: skip
        return replace(self.world.prepared, recipe=r, folder=self.folder)

    def start(self) -> psutil.Process:
        """A supervisor, as `search` is one, in a process of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        nothing = os.open(os.devnull, os.O_RDONLY)
        log = self.folder.parent / f"{self.name}.supervisor"  # outside: the folder's disk may be full
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        pid = os.fork()
        if pid == 0:
            run(self._supervise, nothing, out, log, set())
        os.close(nothing)
        os.close(out)
        return psutil.Process(pid)

    def _supervise(self) -> int:
        prepared = self.prepared
        setting.prepare = lambda *_: prepared  # type: ignore[assignment]  what its workers find
        instant.DOES.clear()
        instant.DOES.update(self.does)
        console = Console(width=200)
        say = lambda text: console.print(text, markup=False, highlight=False)  # noqa: E731
        with turn.interruptible():
            try:
                opened = storage.open_storage(self.url, say)
                preflight.check_storage(opened, self.url, self.name)
                study = studies.open_study(prepared, opened)
                study.set_user_attr("asked", self.trials)
                with Display(study, prepared, console) as display:
                    workers.run(study, prepared, self.world.base, display)
                studies.write(study, prepared, say=say)
            except KeyboardInterrupt:
                return 130
            except studies.SearchStopped as e:
                say(f"stopped: {e}")
                return 1
            except (OSError, recipe.RecipeError, optuna.exceptions.StorageInternalError) as e:
                say(f"error: {type(e).__name__}: {e}")
                return 2
        return 0

    def trials_now(self) -> list[FrozenTrial]:
        """As the database has them; none where it cannot be asked."""
        try:
            opened = optuna.storages.RDBStorage(
                self.url, engine_kwargs={} if "sqlite" in self.url else {"pool_size": 1}
            )
        except Exception:
            return []
        try:
            return optuna.load_study(study_name=self.name, storage=opened).get_trials()
        except Exception:
            return []
        finally:
            opened.remove_session()
            opened.engine.dispose()

    def finish(self, process: psutil.Process | None, seconds: float = 90.0, most: int = 12) -> int:
        """Start it again until it ends well; how many starts that took."""
        starts, end = 0, time.monotonic() + seconds
        while time.monotonic() < end and starts < most:
            if process is None:
                process, starts = self.start(), starts + 1
            if (code := wait(process, end - time.monotonic())) is None:
                break
            if code == 0:
                return starts
            process = None
            time.sleep(0.3)
        raise AssertionError(f"{self.name} did not end: {self.said()}")

    def said(self) -> str:
        """The end of what its supervisors wrote."""
        told = self.folder.parent / f"{self.name}.supervisor"
        return told.read_text()[-3000:] if told.exists() else ""


def make(home: Path, real: bool = False) -> World:
    """Check what is searched once; instant trainings unless ``real``."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "base.yaml").write_text(TINY)
    (home / "space.yaml").write_text(SPACE)
    data = make_dataset(home / "data")
    file = write_recipe(
        home / "r.yaml", data=data, base=home / "base.yaml", space=home / "space.yaml", trials=WHOLE, name="x",
        output=home / "runs", epochs=3,
    )  # fmt: skip
    prepared = setting.prepare(recipe.read(file, {}))
    base = warm.warm_base(prepared) if real else None
    workers.Child = ForkChild  # type: ignore[assignment,misc]
    workers.read_labels = lambda *_: None  # type: ignore[assignment]
    warm.warm_base = lambda *_: base  # type: ignore[assignment]
    crew.ALIVE, crew.SILENCE, turn.PAUSE, announce.STALE = ALIVE, SILENCE, 0.05, 1.0
    init = steady.SteadyStorage.__init__
    steady.SteadyStorage.__init__ = lambda self, url, **kw: init(  # type: ignore[method-assign]
        self, url, **{**kw, "heartbeat_interval": 1, "grace": GRACE}
    )
    if not real:
        instant.patch()
    move_clocks(home / "clock")
    gc.collect()
    gc.freeze()  # what a fork inherits is not looked through for garbage after each trial
    return World(home, prepared, base)


def move_clocks(file: Path) -> None:
    """Let the time of day that the product and Optuna read be so many seconds off as a file says."""

    def off() -> float:
        return float(file.read_text())

    class Moved(datetime):
        """As a wrong clock has it."""

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(seconds=off())

    file.write_text("0")
    right = time.time
    time.time = lambda: right() + off()
    optuna.storages._rdb.storage.datetime = Moved  # type: ignore[attr-defined]
    optuna.trial._frozen.datetime = Moved  # type: ignore[attr-defined]
    studies.datetime = Moved  # type: ignore[attr-defined,misc]


def wait(process: psutil.Process, seconds: float) -> int | None:
    """Exit status of a child of this process; None if it does not end in that time."""
    end = time.monotonic() + max(0.0, seconds)
    while time.monotonic() < end:
        pid, status = os.waitpid(process.pid, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return None


def finished(trials: list[FrozenTrial]) -> dict[int, tuple[Any, ...]]:
    """What must never change: number -> state, values, and the score of every trial that has ended with one."""
    return {
        t.number: (t.state, tuple(t.values or ()), t.user_attrs["score"]["value"])
        for t in trials
        if t.state in (TrialState.COMPLETE, TrialState.PRUNED) and "score" in t.user_attrs
    }


def reached(trials: list[FrozenTrial]) -> list[tuple[str, int]]:
    """Placement and rung of every training that counts."""
    return [
        (t.user_attrs["placement_id"], t.user_attrs["rung"])
        for t in trials
        if "score" in t.user_attrs and t.state in (TrialState.COMPLETE, TrialState.PRUNED)
        and "duplicate_of" not in t.user_attrs
    ]  # fmt: skip


def front(trials: list[FrozenTrial]) -> set[tuple[str, tuple[float, ...]]]:
    """Placements that no other beats in both objectives, mAP and latency."""
    done = [t for t in trials if t.state == TrialState.COMPLETE and "duplicate_of" not in t.user_attrs]
    beaten = lambda a: any(  # noqa: E731
        b.values[0] >= a.values[0] and b.values[1] <= a.values[1] and b.values != a.values for b in done
    )
    return {(t.user_attrs["placement_id"], tuple(t.values)) for t in done if not beaten(t)}


def scores(trials: list[FrozenTrial]) -> set[tuple[str, float]]:
    """Placements with what they score."""
    done = [t for t in trials if t.state == TrialState.COMPLETE and "duplicate_of" not in t.user_attrs]
    return {(t.user_attrs["placement_id"], t.values[0]) for t in done}


def wait_until(there: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Whether it came true in that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if there():
            return True
        time.sleep(0.02)
    return False
