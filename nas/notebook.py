"""Goes in: a running study. Comes out: one table in a notebook's cell that is brought up to date after every trial."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from rich.console import Console

from nas.display import Display
from nas.setting import Setting


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook (Jupyter, VS Code, Colab)."""
    return Console().is_jupyter


class NotebookDisplay(Display):
    """The live view of a terminal as one output of a cell, however many trials there are.

    It needs no widgets: the output is replaced by its display id, so what a saved notebook holds is the last state.
    """

    def __init__(self, study: optuna.Study, setting: Setting) -> None:
        super().__init__(study, setting, Console(force_jupyter=False))
        self.doing = "the first placement trains"
        self.handle: Any = None

    def __enter__(self) -> NotebookDisplay:
        from IPython.display import display

        self.handle = display(self.render(), display_id=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.doing = "stopped" if kind else "done"
        self.handle.update(self.render())

    def say(self, text: str) -> None:
        """One line that stays."""
        print(text)

    def finished_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """An Optuna callback: bring the table up to date; a trial that failed also leaves a line."""
        self.doing = self._line(study, trial)
        if "error" in trial.user_attrs:
            self.say(self.doing)
        self.handle.update(self.render())
