"""Goes in: a study that others work on. Comes out: what they have finished since, shown and written down."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas import study as studies
from nas.display import Display
from nas.setting import Setting

STALE = 5.0  # seconds between looks for trials of machines that are gone


def new(study: optuna.Study, setting: Setting, display: Display, seen: set[int], writes: bool = True) -> None:
    """Show the trials that were finished since, in their order, and write them down."""
    new = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and t.number not in seen]
    seen |= {t.number for t in new}
    for trial in sorted(filter(counts, new), key=lambda t: str(t.datetime_complete)):
        display.finished_trial(study, trial)
    if new and writes:
        studies.write(study, setting, say=display.say)


def counts(trial: FrozenTrial) -> bool:
    """Whether a finished trial has something to tell: one that was interrupted has not."""
    return trial.state != TrialState.FAIL or "error" in trial.user_attrs
