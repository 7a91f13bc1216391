"""Goes in: a running study. Comes out: what a person wants to know, live in a terminal, a line a trial elsewhere."""

from __future__ import annotations

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

from nas import history, progress, wording
from nas.progress import Progress, Reference, clock
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
        self.started = time.monotonic()
        self.doing, self.workers = "starting", 1
        self.reference = Reference.of(setting.recipe.objectives, setting.base_cost.gflops)
        self._known: tuple[tuple[int, ...], Progress] | None = None
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
        if not self.console.is_terminal:
            self.say(self._line(study, trial))
        score = trial.user_attrs.get("score")
        if score and trial.user_attrs.get("placement") == {} and (said := self.setting.poor(score["value"])):
            self.say(f"warning: {said}")

    def progress(self) -> Progress:
        """All figures of now; computed again when a trial has changed its state."""
        trials = self.study.get_trials(deepcopy=False)
        key = tuple(int(t.state) for t in trials)
        if self._known is None or self._known[0] != key:
            self._known = key, progress.read(trials, self.reference, self.setting.recipe.trials)
        return self._known[1]

    def _line(self, study: optuna.Study, trial: FrozenTrial) -> str:
        attrs, p = trial.user_attrs, self.progress()
        on = "continues" in attrs
        # several trials may have ended since: each is told with the count of its own moment
        head = "[goes on]" if on else f"[{self._count(trial)}/{self.setting.recipe.trials}]"
        head += f" trial {trial.number} {attrs.get('label', '')}"
        if trial.state == TrialState.COMPLETE and "duplicate_of" in attrs:
            return f"{head}: same as trial {attrs['duplicate_of']}, not counted"
        if progress.scored(trial):
            latency = attrs["cost"]["latency"]
            over = progress.gain(trial, p.base) if trial.number else None
            score = f"{attrs['score']['metric']} {attrs['score']['value']:.4f}"
            score += f" ({over:+.4f} over the base there)" if over is not None else ""
            until = f", paused at rung {attrs['rung']} of {attrs['rungs']}" if history.paused(trial) else ""
            until = until or (", trained on to the end" if on else "")
            return (
                f"{head}: {score}{until}, latency x{latency['ratio']:.3f}, {attrs['cost']['gflops']:.3f} GFLOPs, "
                f"{attrs['score']['seconds']['total']:.1f} s; left: {progress.left(p)}; "
                f"hypervolume {p.worth.now:.4f}"
            )
        if "infeasible" in attrs:
            return f"{head}: beyond a limit, not trained: {attrs['infeasible']}"
        return f"{head}: {'failed: ' + attrs['error'] if 'error' in attrs else 'interrupted'}"

    def _count(self, trial: FrozenTrial) -> int:
        """Distinct placements that were trained when a trial ended."""
        ended, trials = trial.datetime_complete, self.study.get_trials(deepcopy=False)
        before = [t for t in trials if ended is None or (t.datetime_complete and t.datetime_complete <= ended)]
        return len(progress.farthest(before))

    def render(self) -> RenderableType:
        """The live view."""
        p, rungs = self.progress(), self.setting.recipe.rungs
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        whole = f", {p.whole} to the end, {p.paused} paused" if rungs > 1 else ""
        facts = Table.grid(padding=(0, 2))
        facts.add_row("how far", f"[b]{p.trained}[/b] of {wording.count(p.asked, 'placement')} trained{whole}")
        facts.add_row("", f"{p.running} running, {p.failed} failed, {p.beyond} beyond limits")
        facts.add_row("how long", f"{clock(time.monotonic() - self.started)} passed; left: {progress.left(p)}")
        facts.add_row("best", Text(progress.best(p, self.setting.task.metric)))
        facts.add_row("worth it", Text(progress.waiting(p)))
        running = [t.user_attrs.get("label", "choosing") for t in trials]
        more = f" and {len(running) - AT_ONCE} more" * (len(running) > AT_ONCE)
        facts.add_row("now", Text(", ".join(running[-AT_ONCE:]) + more if running else self.doing, style="dim"))
        bar = Table.grid()  # a bar alone does not end its line
        bar.add_row(ProgressBar(total=p.asked, completed=p.trained, width=60))
        title = f"Pareto front, {wording.count(len(p.front), 'point')}, hypervolume {p.worth.now:.4f}"
        parts = Group(bar, facts, Text(f"\n{title}", style="italic"), self._front(p))
        return Panel(parts, title=self.study.study_name, border_style="blue")

    def _front(self, p: Progress) -> Table:
        """The front's first rows; their title stands above the table, which may be narrower."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        two_heads = self.setting.base_cost.latency is not None and self.setting.base_cost.latency.head == ONE2ONE
        for column in ("trial", self.setting.task.metric, *["NMS-free"] * two_heads, "vs base", "latency", "GFLOPs"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("placement", overflow="fold")
        for t in p.front[:SHOWN]:
            score, cost, over = t.user_attrs["score"], t.user_attrs["cost"], progress.gain(t, p.base)
            table.add_row(
                str(t.number),
                f"{score['value']:.4f}",
                *[f"{score['nms_free']:.4f}"] * two_heads,
                "-" if over is None or t is p.base else f"{over:+.4f}",
                f"x{cost['latency']['ratio']:.3f}",
                f"{cost['gflops']:.3f}",
                Text(t.user_attrs["label"]),
            )
        if len(p.front) > SHOWN:
            table.add_row("...", *[""] * (4 + two_heads), f"and {len(p.front) - SHOWN} more")
        return table
