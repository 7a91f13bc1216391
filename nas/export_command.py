"""Goes in: the values of `export`. Comes out: one point of a study as files, and what to do with them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from nas import export, model_card, plug_ins, rescale, trust
from nas.bundle import write as write_bundle
from nas.dashboard import find
from nas.fit import attempt, load_modules


@dataclass(frozen=True)
class Written:
    """What was written.

    Args:
        trial: Whose placement it is.
        found: It on another base, where one was asked for.
        name: The files', without their endings.
        yaml: The model's YAML, or None where only a bundle was asked for.
        script: The bundle's Python file, or None.
    """

    trial: FrozenTrial
    found: rescale.Rescaled | None
    name: str
    yaml: Path | None
    script: Path | None


def write(
    study: optuna.Study,
    folder: Path,
    pick: str,
    to: Path | None,
    base: str | None = None,
    weights: str | None = None,
    bundle: Path | None = None,
) -> Written:
    """Write one point of a study, perhaps on another base, perhaps as a bundle.

    Raises:
        InputError: No such point, a placement that does not fit the base, or a folder that holds something else.
    """
    trial = export.pick(study, pick)
    faults: list[str] = []
    trust.refuse_code(study.user_attrs["base_yaml"], f"study {study.study_name!r}")
    attempt(lambda: plug_ins.again(study, print), faults)
    if not faults:
        load_modules(tuple(study.user_attrs["recipe"]["modules"]), faults)  # files alone can be written without
    if faults and bundle and not (base or weights):
        raise export.ExportError("\n".join(faults))
    found = rescale.apply(study, trial, base, weights) if base or weights else None
    name = rescale.point_name(trial, found) if found else export.point_name(trial)
    with tempfile.TemporaryDirectory() as scratch:
        target = to or (Path(scratch) if bundle else Path("."))
        export.refuse_overwrite(study, name, target)
        if found:
            yaml = rescale.write_point(study, trial, found, target)
        else:
            yaml = export.write_point(study, folder, trial, target)
        stays = to is not None or bundle is None
        if stays:
            model_card.write(yaml, export.train_command(study, found.graft.yaml if found else None))
        return Written(trial, found, name, yaml if stays else None, write_bundle(yaml, bundle) if bundle else None)


def point(
    which: str,
    pick: str,
    to: Path | None,
    base: str | None,
    weights: str | None,
    bundle: Path | None,
    storage: str | None,
    output: str,
) -> None:
    """`export`: write one point and say how to go on.

    Raises:
        InputError: See :func:`write`.
    """
    study, folder = find(which, storage, output)
    done = write(study, folder, pick, to, base, weights, bundle)
    attrs, found = done.trial.user_attrs, done.found
    lines = [f"trial {done.trial.number}: {attrs['label']}" + (f", on {found.name}" if found else "")]
    if not attrs["placement"]:
        why = "" if pick.isdigit() else f": nothing on the front beats it by --pick {pick}"
        lines.append(f"  this is the untouched base{why}")
    if found and found.transfer:
        lines.append(f"  {found.transfer}")
    elif not found:
        lines.append(f"  {export.card(study, done.trial)['note']}")
    if done.yaml:
        lines += files(done.yaml, export.train_command(study, found.graft.yaml if found else None), found is not None)
    if done.script:
        lines += bundled(done.script, done.name)
    print("\n".join(lines))


def files(yaml: Path, command: str, on_another_base: bool) -> list[str]:
    """What was written, and how to train it."""
    weights = yaml.with_suffix(".pt")
    endings = ", ".join(e for e in (".yaml", ".pt", ".md (the model card)", ".json") if e != ".pt" or weights.is_file())
    lines = [f"Written: {yaml.with_suffix('')}  {endings}"]
    if weights.is_file():
        lines += [
            "Train it from these weights:",
            f"  {command} model={weights} data=... epochs=100",
            "or from random ones:",
        ]
    elif on_another_base:
        lines.append("Without weights (--weights carries those of the base over). Train it from random ones:")
    else:
        lines.append("Without weights: they are kept for trials on the front only. Train it from random ones:")
    return [*lines, f"  {command} model={yaml} data=... epochs=100"]


def bundled(script: Path, name: str) -> list[str]:
    """What the bundle is, and how to use it."""
    there = script.parent / f"{name}.pt"
    model = there if there.is_file() else there.with_suffix(".yaml")
    without = (
        "" if there.is_file() else "Without weights: they are kept for trials on the front only, or come by --weights."
    )
    return [
        *filter(None, [without]),
        f"Bundle: {script.parent}/  works where only Ultralytics is installed; its README.md tells how, for instance:",
        f"  python {script} train model={model} data=... epochs=100",
    ]
