"""The study's lock in PostgreSQL: one holder; freed by its death; its loss is noticed; who waits can be interrupted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import run_python
from postgres_support import Postgres, running

from nas import study_lock
from nas.locks import FileLock
from nas.steady import SteadyStorage
from nas.study_lock import DatabaseLock, LockLost


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of this file's own."""
    pytest.importorskip("psycopg")
    with running() as made:
        yield made


@pytest.fixture
def storage(postgres: Postgres) -> SteadyStorage:
    return SteadyStorage(postgres.url)


def test_the_storage_decides_which_lock(storage: SteadyStorage, tmp_path: Path) -> None:
    assert isinstance(study_lock.of(storage, "s", tmp_path), DatabaseLock)
    assert isinstance(study_lock.of(SteadyStorage(f"sqlite:///{tmp_path / 's.db'}"), "s", tmp_path), FileLock)


def test_one_holds_it_at_a_time_and_each_study_has_its_own(storage: SteadyStorage) -> None:
    one, two, other = DatabaseLock(storage, "s"), DatabaseLock(storage, "s"), DatabaseLock(storage, "t")
    one.acquire()
    other.acquire()
    waiting = threading.Thread(target=two.acquire, daemon=True)
    waiting.start()
    time.sleep(0.5)
    assert one.held and other.held and not two.held
    one.check()
    one.release()
    waiting.join(10)
    assert two.held
    with pytest.raises(RuntimeError, match="held by this process"):
        two.acquire()
    two.release()
    other.release()
    two.release()


def test_the_death_of_its_holder_frees_it(storage: SteadyStorage, postgres: Postgres) -> None:
    run_python(
        "import os, sys\n"
        "from nas.steady import SteadyStorage\n"
        "from nas.study_lock import DatabaseLock\n"
        "held = DatabaseLock(SteadyStorage(sys.argv[1]), 'dead')\n"
        "held.acquire()\n"
        "os._exit(0)\n",
        postgres.url,
    )
    with DatabaseLock(storage, "dead") as lock:
        assert lock.held  # type: ignore[attr-defined]


def test_who_waits_can_be_interrupted(storage: SteadyStorage, postgres: Postgres) -> None:
    with DatabaseLock(storage, "busy"):
        took = run_python(  # a process of its own: a signal that went astray would end this one
            "import os, signal, sys, threading, time\n"
            "from nas import turn\n"
            "from nas.steady import SteadyStorage\n"
            "from nas.study_lock import DatabaseLock\n"
            "waits = DatabaseLock(SteadyStorage(sys.argv[1]), 'busy')\n"
            "started = time.monotonic()\n"
            "with turn.interruptible() as came:\n"
            "    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()\n"
            "    try:\n"
            "        waits.acquire()\n"
            "    except KeyboardInterrupt:\n"
            "        print(time.monotonic() - started, len(came), waits.held)\n",
            postgres.url,
        )
    seconds, signals, held = took.splitlines()[-1].split()
    assert 0.5 <= float(seconds) < 5 and (signals, held) == ("1", "False")


def test_its_loss_is_noticed(storage: SteadyStorage, postgres: Postgres) -> None:
    lock = DatabaseLock(storage, "lost")
    lock.acquire()
    postgres.stop("immediate")
    postgres.start()
    with pytest.raises(LockLost, match="went away"):
        lock.check()
    assert not lock.held
    with lock:
        lock.check()
    with pytest.raises(LockLost, match="not held"):
        lock.check()
