"""A storage whose database goes away, processes that give no sign, an interrupt in the middle of a write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import IntegrityError, OperationalError

from nas import steady
from nas.steady import SteadyStorage


def away(*_: Any) -> Any:
    """What Optuna raises when the database does not answer."""
    raise StorageInternalError("an exception") from OperationalError("SELECT 1", {}, Exception("connection refused"))


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SteadyStorage:
    """On a file, whose pauses are short."""
    monkeypatch.setattr(steady, "PAUSES", (0.0, 0.0, 0.01))
    said: list[str] = []
    made = SteadyStorage(f"sqlite:///{tmp_path / 's.db'}", say=said.append, patience=0.2)
    made.said = said  # type: ignore[attr-defined]
    return made


def study_of(storage: SteadyStorage) -> optuna.Study:
    return optuna.create_study(study_name="s", storage=storage)


def test_a_call_is_made_again_until_the_database_is_back(storage: Any) -> None:
    calls = []

    def call() -> str:
        calls.append(1)
        return "found" if len(calls) > 6 else away()

    assert storage.insist(call) == "found"
    assert len(storage.said) == 2
    assert "does not answer (connection refused)" in storage.said[0] and "is back" in storage.said[1]


def test_a_connection_that_breaks_while_trials_are_read_is_opened_anew(storage: Any) -> None:
    study = study_of(storage)
    study.ask()
    broken = []

    @sqlalchemy.event.listens_for(storage.engine, "before_cursor_execute")
    def breaks(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "FROM trials" in statement and not broken:
            broken.append(statement)
            connection.invalidate()
            raise OperationalError(statement, {}, Exception("the server closed the connection"))

    assert len(study.get_trials()) == 1 and broken


def test_after_its_patience_it_gives_up(storage: Any) -> None:
    with pytest.raises(StorageInternalError):
        storage.insist(away)


def test_a_fault_of_what_was_asked_is_not_asked_again(storage: Any) -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise IntegrityError("INSERT", {}, Exception("unique"))

    with pytest.raises(IntegrityError):
        storage.insist(call)
    assert len(calls) == 1


def test_a_result_whose_answer_got_lost_is_not_told_twice(storage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(storage)
    trial = study.ask()
    good, lost = RDBStorage.set_trial_state_values, []

    def answers_late(self: Any, *args: Any) -> bool:
        found = good(self, *args)
        if not lost:
            lost.append(1)
            away()
        return found

    monkeypatch.setattr(RDBStorage, "set_trial_state_values", answers_late)
    study.tell(trial, 0.5)
    assert study.trials[0].state == TrialState.COMPLETE and study.trials[0].value == 0.5
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [0.7])


def test_who_gives_no_sign_is_held_for_dead_by_the_lookers_own_clock(
    storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, now = study_of(storage), [1000.0]
    monkeypatch.setattr(steady.time, "monotonic", lambda: now[0])
    lives, dies, unborn = study.ask(), study.ask(), study.ask()
    storage.record_heartbeat(lives._trial_id)
    storage.record_heartbeat(dies._trial_id)
    signs = {lives._trial_id: 1, dies._trial_id: 1, unborn._trial_id: None}
    monkeypatch.setattr(storage, "_signs", lambda study_id: dict(signs))
    for second in range(0, 200, 10):
        now[0] = 1000.0 + second
        signs[lives._trial_id] = -second  # whatever the clocks say, it is another one
        stale = storage._get_stale_trial_ids(study._study_id)
        assert stale == ([dies._trial_id, unborn._trial_id] if second > storage.grace else [])
    now[0] += 3600.0
    assert storage._get_stale_trial_ids(study._study_id) == [], "it did not look for an hour: all get their time anew"


def test_a_heartbeat_that_is_not_taken_stops_nothing(storage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RDBStorage, "record_heartbeat", away)
    storage.record_heartbeat(1)


REPO = Path(__file__).resolve().parents[2]
INTERRUPTED = """
import os, signal
from nas import shield, turn

done = []
with turn.interruptible() as came:
    try:
        with shield.SHIELD:
            for name in {names}:
                os.kill(os.getpid(), getattr(signal, name))
            done.append(1)
    except KeyboardInterrupt:
        print(len(done), [signal.Signals(s).name for s in came], shield.SHIELD.depth, shield.SHIELD.pending)
"""


def interrupted(*names: str) -> str:
    """What a process of its own says of a call in whose middle these signals come; a stray one would end this one."""
    script = INTERRUPTED.format(names=names)
    done = subprocess.run([sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]  # Ultralytics may speak before it


def test_an_interrupt_in_the_middle_of_a_call_comes_after_it() -> None:
    assert interrupted("SIGTERM") == "1 ['SIGTERM'] 0 False"


def test_the_second_interrupt_does_not_wait() -> None:
    assert interrupted("SIGINT", "SIGINT").startswith("0 ")
