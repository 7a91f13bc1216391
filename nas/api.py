"""Goes in: the fields of a recipe as Python arguments. Comes out: a Study to look at, to plot and to export from.

The same steps as `python -m nas search`, and the same study: what one of them began the other continues. Input that is
wrong is an exception here (`nas.errors.InputError`), never an exit.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from rich.console import Console

from nas import (
    dashboard,
    effects,
    effects_words,
    export,
    export_command,
    finalists_command,
    notebook,
    outcome,
    recipe,
    report,
    run,
    setting,
    task,
    trainings,
    workers,
)
from nas import study as studies
from nas.data import Dataset
from nas.data import check as check_dataset
from nas.demo import demo_dataset
from nas.display import Display
from nas.trust import granted

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Point:
    """One placement as files.

    Args:
        label: Its blocks and their sites; ``base`` for none.
        yaml: The model, without weights.
        weights: Its short-trained weights; None where none are kept (they are for the front).
        card: The model card: every figure and how it was measured.
        figures: Scores, costs and versions, as JSON.
    """

    label: str
    yaml: Path
    weights: Path | None
    card: Path
    figures: Path


@dataclass(frozen=True)
class Study:
    """A search, running elsewhere or finished; every look at it shows it as it is now.

    Args:
        study: Optuna's own object, for all that is not here.
        folder: Where its files are.
    """

    study: optuna.Study
    folder: Path

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decided its results, as in `recipe.yaml`."""
        return dict(self.study.user_attrs["recipe"])

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial of any state, as in `trials.csv`."""
        return report.trials_frame(self.study)

    @property
    def front(self) -> pd.DataFrame:
        """The Pareto front, best score first. Scores in [0, 1], named by the task; ``latency_ratio`` is over the base.

        Without milliseconds, which do not compare between moments; :attr:`trials` has them.
        """
        score = task.of(self.study.user_attrs["base_yaml"]).columns[0]
        columns = ["trial", "placement", score, f"{score}_over_base", "latency_ratio", "gflops", "params"]
        order = [t.number for t in export.front_trials(self.study)]
        rows = self.trials
        return rows.set_index("trial", drop=False).loc[order, columns].reset_index(drop=True)

    @property
    def verdict(self) -> outcome.Outcome | None:
        """What the finalists came to, ``.sentences`` in words; None before they were trained."""
        return outcome.of_study(self.study)

    def effects(self, images: int | None = None) -> pd.DataFrame:
        """What each block does at each site, with 95% intervals; see ``nas.effects.frame``.

        ``.attrs["verdict"]`` has the sentences that say what the data carry.

        Args:
            images: Scores after so many training images instead of at the end.

        Raises:
            EffectsError: Too few placements, no base, or no such budget.
        """
        model = effects.fit(trainings.from_study(self.study, images))
        found = effects.frame(model)
        found.attrs["verdict"] = effects_words.verdict(model)
        return found

    def plot(self) -> go.Figure:
        """Score over cost: the front, the base, and every other trial."""
        return report.pareto_figure(self.study)

    def export(
        self,
        pick: str | int = "knee",
        to: str | Path = ".",
        *,
        base: str | None = None,
        weights: str | None = None,
        bundle: str | Path | None = None,
    ) -> Point:
        """Write one placement's YAML, weights and cards into the folder ``to``.

        Args:
            pick: ``knee``, ``best`` (score), ``fastest``, or a trial's number.
            base, weights: Another base to put the placement on, such as ``yolov10s.yaml`` and ``yolov10s.pt``.
            bundle: A folder that is written besides, which works where only Ultralytics is installed.

        Raises:
            InputError: No such trial, a base that it does not fit, or a folder that holds a point of another study.
        """
        done = export_command.write(
            self.study, self.folder, str(pick), Path(to), base, weights, Path(bundle) if bundle else None
        )
        assert done.yaml is not None
        stored = done.yaml.with_suffix(".pt")
        kept = stored if stored.is_file() else None
        card, figures = done.yaml.with_suffix(".md"), done.yaml.with_suffix(".json")
        return Point(done.trial.user_attrs["label"], done.yaml, kept, card, figures)

    def __repr__(self) -> str:
        done, points = len(export.trained(self.study)), len(export.front_trials(self.study))
        return f"Study {self.study.study_name!r}: {done} placements, {points} on the front, in {self.folder}"


def check(data: str | Path = "demo", task: str = "detect") -> Dataset:
    """Read a dataset and every label of it for a task of Ultralytics, as a search does before anything is spent.

    Raises:
        DataError: What is wrong, in which file.
    """
    return check_dataset(demo_dataset() if str(data) == setting.DEMO else data, task)


def load(study: str | Path, *, storage: str | None = None, output: str | Path = "runs") -> Study:
    """A study that was searched before, by its name or its folder.

    Raises:
        RecipeError: There is none; says which there are.
    """
    return Study(*dashboard.find(str(study), storage, str(output)))


def search(recipe: str | Path | None = None, *, trust: bool = False, **values: Any) -> Study:
    """Search for the placements on the Pareto front of accuracy and cost; the same call again continues it.

    Without ``data`` it runs the demo. Returns when ``trials`` placements are trained and the finalists are judged
    (``finalists=0`` for none).

    Args:
        recipe: A study as a YAML file; values win over it.
        trust: Take checkpoints that hold more than weights, and run a dataset's download script: both run code.
        values: Fields of a recipe (``data``, ``weights``, ``trials``, ``space``, ``name``, ...: see
            ``nas.recipe.Recipe``) and Ultralytics' training arguments (``imgsz``, ``batch``, ...). ``slots`` is
            what `--workers` and `--per-gpu` are; ``workers`` is Ultralytics', of reading pictures.

    Raises:
        InputError: Every fault of the input, before anything is spent.
        TrainingFailed: The base could not be trained.
        SearchStopped: Trial after trial fails, or nothing new is left to try; what was trained is kept.
        KeyboardInterrupt: Stopped; what was trained is kept, and the same call goes on.
    """
    with granted(trust):
        study, prepared, base = run.begin(resolve(recipe, values), print)
        try:
            with display(study, prepared) as shown:
                workers.run(study, prepared, base, shown)
        finally:
            studies.write(study, prepared, pictures=True)
        if prepared.recipe.finalists and len(export.finished(study)) > 1:
            finalists_command.compute(study, prepared, base, print)
    return Study(study, prepared.folder)


def display(study: optuna.Study, prepared: setting.Setting) -> Display:
    """How progress is shown: a table in a notebook, else as in a terminal."""
    if notebook.in_notebook():
        return notebook.NotebookDisplay(study, prepared)
    return Display(study, prepared, Console(soft_wrap=True, file=sys.stdout))


def resolve(path: str | Path | None, values: dict[str, Any]) -> recipe.Recipe:
    """The recipe that a file and Python values make together; training arguments are read as on the command line.

    Raises:
        RecipeError: Every fault of the file and the values, one a line.
    """
    from ultralytics.utils import DEFAULT_CFG_DICT

    known = [*recipe.Recipe.model_fields, *DEFAULT_CFG_DICT]
    unknown = [
        f"{k}={v!r}: no field of a recipe and no argument of Ultralytics{recipe.near(k, known)}"
        for k, v in values.items()
        if k not in known
    ]
    if unknown:
        raise recipe.RecipeError("\n".join(unknown))
    fields = {k: _plain(v) for k, v in values.items() if k in recipe.Recipe.model_fields and k != "train"}
    train = {**values.get("train", {}), **{k: v for k, v in values.items() if k not in recipe.Recipe.model_fields}}
    return run.resolve(Path(path) if path else None, fields, [f"{key}={value}" for key, value in train.items()])


def _plain(value: Any) -> Any:
    """Paths as text, as the command line has them."""
    if isinstance(value, list | tuple):
        return tuple(_plain(v) for v in value)
    return str(value) if isinstance(value, Path) else value
