"""Goes in: a database's URL. Comes out: an Optuna storage that outlasts its database's restart and trusts no clock.

Optuna's own gives up at the first call that the database does not answer, and its thread of heartbeats dies of it; it
takes a process for dead by comparing times, which a clock that jumps, or a database that was away, makes a lie.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import InterfaceError, OperationalError, PendingRollbackError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from nas.shield import SHIELD

HEARTBEAT, GRACE = 15, 90  # seconds between two signs of life, and without one until a process is held for dead
PATIENCE, BRIEF = 600.0, 30.0  # seconds to go on asking: a server that is away, a file that cannot be written
PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0)  # seconds between the first calls; the last one from then on
# The third: where reading all trials fails with the first, Optuna asks again inside the session that was lost by it.
PASSING = (OperationalError, InterfaceError, PendingRollbackError, PoolTimeoutError)
RETRIED = (
    "create_new_study", "set_study_user_attr", "set_study_system_attr", "get_study_id_from_name",
    "get_study_name_from_id", "get_study_directions", "get_study_user_attrs", "get_study_system_attrs",
    "get_all_studies", "_create_new_trial", "_set_trial_param", "set_trial_param", "set_trial_intermediate_value",
    "set_trial_user_attr", "set_trial_system_attr", "get_trial_id_from_study_id_trial_number", "get_trial",
    "get_all_trials", "_get_trials",
)  # fmt: skip
Result = TypeVar("Result")


class SteadyStorage(RDBStorage):
    """Optuna's relational storage, whose calls are made again while the database is away.

    Args:
        url: The database.
        say: Takes one line when it is away, and one when it is back; without the password, which it never has.
        grace: Seconds without a sign of life after which a trial's process is held for dead; measured by this
            process's own monotonic clock, from when it first saw the last sign, and only while it looks regularly.
        patience: Seconds to go on asking; by default ten minutes, half a minute for a file.
    """

    def __init__(
        self,
        url: str,
        *,
        say: Callable[[str], None] | None = None,
        grace: float = GRACE,
        patience: float | None = None,
        heartbeat_interval: int = HEARTBEAT,
        **options: Any,
    ) -> None:
        self.say, self.grace = say or (lambda text: None), grace
        self.patience = patience or (BRIEF if url.startswith("sqlite") else PATIENCE)
        self.signs: dict[int, tuple[Any, float]] = {}  # trial -> its last sign of life, and when it was first seen
        self.looked = -float("inf")
        self.looking = threading.Lock()
        self.given_up = False
        super().__init__(url, heartbeat_interval=heartbeat_interval, grace_period=max(1, round(grace)), **options)

    def insist(self, call: Callable[[], Result], whole: bool = True) -> Result:
        """The call's result, made again while the database does not answer.

        Args:
            whole: An interrupt waits for its end.

        Raises:
            StorageInternalError: It did not answer for so long.
        """
        started, attempt = time.monotonic(), 0
        while True:
            try:
                with SHIELD if whole else nullcontext():
                    found = call()
            except (StorageInternalError, SQLAlchemyError) as e:
                if not passing(e):
                    raise
                if self.given_up or time.monotonic() - started > self.patience:
                    self.given_up = True  # what is still to be tidied up does not wait as long again
                    raise
                if attempt == len(PAUSES):
                    self.say(f"the storage does not answer ({reason(e)}); asking again for {self.patience:.0f} s")
                time.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
                attempt += 1
                continue
            self.given_up = False
            if attempt > len(PAUSES):
                self.say(f"the storage is back after {time.monotonic() - started:.0f} s")
            return found

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As Optuna's; where the answer to a write that was made got lost, the second one finds it made."""
        tried = []

        def call() -> bool:
            tried.append(1)
            try:
                return RDBStorage.set_trial_state_values(self, trial_id, state, values)
            except UpdateFinishedTrialError:
                if len(tried) == 1 or not same(RDBStorage.get_trial(self, trial_id), state, values):
                    raise
                return True

        return self.insist(call)

    def record_heartbeat(self, trial_id: int) -> None:
        """A sign of life; one that the database does not take is left to the next."""
        try:
            super().record_heartbeat(trial_id)
        except (StorageInternalError, SQLAlchemyError) as e:
            if not passing(e):
                raise

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        """Running trials that gave no new sign of life for the time of grace, while this process was looking."""
        now_signs = self.insist(lambda: self._signs(study_id))
        with self.looking:
            now = time.monotonic()
            if now - self.looked > self.grace / 2:  # nobody looked, or nobody answered: all get their time anew
                self.signs.clear()
            self.looked = now
            self.signs = {
                trial: old if (old := self.signs.get(trial)) and old[0] == sign else (sign, now)
                for trial, sign in now_signs.items()
            }
            return [trial for trial, (_, since) in self.signs.items() if now - since > self.grace]

    def silent(self, study_id: int) -> list[int]:
        """Running trials without a sign of life for the time of grace by the database's clock: to be shown, no more."""
        return self.insist(lambda: RDBStorage._get_stale_trial_ids(self, study_id))

    def _signs(self, study_id: int) -> dict[int, Any]:
        """Running trials of a study -> their last sign of life, by whatever clock; None before the first."""
        trial, beat = models.TrialModel, models.TrialHeartbeatModel
        with _create_scoped_session(self.scoped_session, True) as session:
            rows = (
                session.query(trial.trial_id, beat.heartbeat)
                .outerjoin(beat, beat.trial_id == trial.trial_id)
                .filter(trial.state == TrialState.RUNNING)
                .filter(trial.study_id == study_id)
                .all()
            )
        return {int(number): sign for number, sign in rows}


def _retried(name: str) -> Any:
    plain = getattr(RDBStorage, name)

    @functools.wraps(plain)
    def method(self: SteadyStorage, *args: Any, **kwargs: Any) -> Any:
        return self.insist(lambda: plain(self, *args, **kwargs))

    return method


for _name in RETRIED:
    setattr(SteadyStorage, _name, _retried(_name))


def passing(e: BaseException) -> bool:
    """Whether an error is of the connection and not of what was asked."""
    cause = e.__cause__ if isinstance(e, StorageInternalError) else e
    return isinstance(cause, PASSING) or bool(getattr(cause, "connection_invalidated", False))


def reason(e: BaseException) -> str:
    """The database's own words, in one line and without what was asked of it."""
    cause = e.__cause__ if isinstance(e, StorageInternalError) else e
    told = str(getattr(cause, "orig", None) or cause).strip().splitlines()
    return told[0][:200] if told else type(cause).__name__


def same(trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> bool:
    """Whether a trial stands as it was to be written."""
    return trial.state == state and (values is None or list(trial.values or ()) == list(values))
