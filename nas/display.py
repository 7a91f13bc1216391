"""Goes in: a running study. Comes out: what a person wants to know, live in a terminal, a line a trial elsewhere."""

from __future__ import annotations

import statistics
import time
from types import TracebackType

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nas import history
from nas.export import directions, finished, front_trials, gain, trained
from nas.front import hypervolume
from nas.setting import Setting
from nas.task import ONE2ONE

SHOWN = 12
AT_ONCE = 4


class Display:
    """A context that shows a study while it runs.

    Args:
        setting: What the study searches.
        console: Where to; a terminal gets a live table, anything else plain lines.
    """

    def __init__(self, study: optuna.Study, setting: Setting, console: Console) -> None:
        self.study, self.setting, self.console = study, setting, console
        self.started, self.before = time.monotonic(), len(trained(study))
        self.doing, self.workers = "starting", 1
        self.durations: list[float] = []
        self.live = Live(
            console=self.console,
            get_renderable=self.render,
            refresh_per_second=2,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def say(self, text: str) -> None:
        """One line that stays."""
        self.console.print(text, highlight=False, markup=False)

    def finished_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """An Optuna callback: a plain line for a finished trial."""
        if trial.duration is not None and (trial.state == TrialState.COMPLETE or history.paused(trial)):
            self.durations.append(trial.duration.total_seconds())
        if not self.console.is_terminal:
            self.say(self._line(study, trial))

    def _line(self, study: optuna.Study, trial: FrozenTrial) -> str:
        attrs = trial.user_attrs
        ended = trial.datetime_complete
        done = sum(ended is None or t.datetime_complete <= ended for t in trained(self.study) if t.datetime_complete)
        head = f"[{done}/{self.setting.recipe.trials}] trial {trial.number} {attrs.get('label', '')}"
        if trial.state == TrialState.COMPLETE and "duplicate_of" in attrs:
            return f"{head}: same as trial {attrs['duplicate_of']}, not counted"
        if trial.state == TrialState.COMPLETE or history.paused(trial):
            latency = attrs["cost"]["latency"]
            over = gain(study, trial) if trial.number else None
            rung = f" at rung {attrs['rung']} of {attrs['rungs']}" if history.paused(trial) else ""
            rung += f" ({over:+.4f} over the base there)" if over is not None else ""
            return (
                f"{head}: {attrs['score']['metric']} {attrs['score']['value']:.4f}{rung}, "
                f"latency x{latency['ratio']:.3f}, {attrs['cost']['gflops']:.3f} GFLOPs, "
                f"{attrs['score']['seconds']['total']:.1f} s; {self._left()} left; hypervolume {self.volume():.4f}"
            )
        return f"{head}: {trial.state.name.lower()}: {attrs.get('error') or attrs.get('infeasible') or 'interrupted'}"

    def volume(self) -> float:
        """Hypervolume of the front up to a score of 0 and, for each cost, twice the base."""
        reference, scale = reference_point(self.setting)
        return hypervolume([t.values for t in finished(self.study)], directions(self.study), reference) / scale

    def render(self) -> RenderableType:
        """The live view."""
        trials = self.study.get_trials(deepcopy=False)
        count = {state: sum(t.state == state for t in trials) for state in TrialState}
        done, total = len(trained(self.study)), self.setting.recipe.trials
        beyond = sum("infeasible" in t.user_attrs for t in trials)
        whole = f", {len(finished(self.study))} to the end" if self.setting.recipe.rungs > 1 else ""
        facts = Table.grid(padding=(0, 2))
        facts.add_row(
            f"[b]{done}[/b] of {total} placements trained{whole}",
            f"{count[TrialState.RUNNING]} running",
            f"{count[TrialState.FAIL]} failed",
            f"{beyond} beyond limits",
        )
        facts.add_row(
            f"{_clock(time.monotonic() - self.started)} passed",
            f"{self._left()} left",
            f"hypervolume {self.volume():.4f}",
        )
        running = [t.user_attrs.get("label", "choosing") for t in trials if t.state == TrialState.RUNNING]
        now = Text(f"now: {', '.join(running[-AT_ONCE:])}" if running else self.doing, style="dim")
        bar = Table.grid()  # a bar alone does not end its line
        bar.add_row(ProgressBar(total=total, completed=min(done, total), width=60))
        return Panel(Group(facts, bar, now, self._front()), title=self.study.study_name, border_style="blue")

    def _front(self) -> Table:
        points = front_trials(self.study)
        table = Table(title=f"Pareto front, {len(points)} points", title_justify="left", expand=False)
        two_heads = self.setting.base_cost.latency is not None and self.setting.base_cost.latency.head == ONE2ONE
        for column in ("trial", self.setting.task.metric, *["NMS-free"] * two_heads, "latency", "GFLOPs"):
            table.add_column(column, justify="right")
        table.add_column("placement")
        for t in points[:SHOWN]:
            score, cost = t.user_attrs["score"], t.user_attrs["cost"]
            table.add_row(
                str(t.number),
                f"{score['value']:.4f}",
                *[f"{score['nms_free']:.4f}"] * two_heads,
                f"x{cost['latency']['ratio']:.3f}",
                f"{cost['gflops']:.3f}",
                Text(t.user_attrs["label"]),
            )
        return table

    def _left(self) -> str:
        todo = self.setting.recipe.trials - len(trained(self.study))
        if not self.durations:
            return "?"
        if todo <= 0 and any(map(history.paused, self.study.get_trials(deepcopy=False))):
            return "the promising, trained on to the end, are"
        return _clock(max(0, todo) / self.workers * statistics.median(self.durations[-20:]))


def reference_point(setting: Setting) -> tuple[tuple[float, ...], float]:
    """The hypervolume's reference (a score of 0, twice the base's cost) and what to divide by (the costs' units)."""
    table = {"map": 0.0, "accuracy": 0.0, "latency": 2.0, "gflops": 2 * setting.base_cost.gflops}
    objectives = setting.recipe.objectives
    scale = setting.base_cost.gflops if "gflops" in objectives else 1.0
    return tuple(table[name] for name in objectives), scale


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
