"""Goes in: a study. Comes out: the files of its front as artifacts of the dashboard; what has left it is removed.

Each point of now has on its trial's page its YAML, weights, card (JSON and markdown) and training curve; the study has
one table of all curves. What a person has uploaded stays.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import optuna
from optuna.artifacts import upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.trial import FrozenTrial

from nas import export, model_card
from nas.backends import ArtifactStore, Careful, Folder, StoreError, there
from nas.curves import curve, curves
from nas.errors import InputError
from nas.store import open_store

PREFIX = "artifacts:"  # of a system attribute; set to null, as the dashboard does it, the artifact is removed
LATER = re.compile(r"(?:dashboard:artifacts:(\d+):|artifacts:)[0-9a-f-]+")  # of the study, or given to a finished trial
PLACE = "artifacts"  # user attribute of the study: where all files travel, for machines with folders of their own
CURVES = "curves.csv"
OURS = re.compile(r"trial-\d+-[0-9a-f]+\.(yaml|pt|json|md|csv)|curves\.csv")
KINDS = {
    ".yaml": "text/yaml",
    ".pt": "application/octet-stream",
    ".md": "text/markdown",
    ".json": "application/json",
    ".csv": "text/csv",
}


def artifact_store(folder: Path, address: str | None = None) -> ArtifactStore:
    """The study's artifacts: at the address of its user attribute `artifacts`, or in its folder."""
    if (shared := open_store(address)) is not None:
        return shared.artifacts
    place = folder / "artifacts"
    place.mkdir(parents=True, exist_ok=True)
    return Careful(Folder(place), str(place))


def upload(target: optuna.Study | optuna.Trial, file: Path, store: ArtifactStore) -> None:
    """Attach a file to a study or a running trial."""
    kind = KINDS.get(file.suffix)
    upload_artifact(artifact_store=store, file_path=str(file), study_or_trial=target, mimetype=kind)


def of_trial(trial: optuna.Trial, yaml: str, folder: Path) -> None:
    """Attach a trial's YAML and training curve while it runs; a store that is away costs the files, not the trial."""
    name = f"trial-{trial.number}-{trial.user_attrs['placement_id']}"
    try:
        store = artifact_store(folder, trial.study.user_attrs.get(PLACE))
        with tempfile.TemporaryDirectory() as scratch:
            for ending, text in ((".yaml", yaml), (".csv", curve(trial.user_attrs["score"]))):
                file = Path(scratch) / f"{name}{ending}"
                file.write_text(text, encoding="utf-8")
                upload(trial, file, store)
    except (StoreError, InputError) as e:
        print(f"trial {trial.number}: its files are not on the dashboard: {e}", file=sys.stderr)


def refresh(study: optuna.Study, folder: Path, on_front: Sequence[FrozenTrial]) -> ArtifactStore:
    """Bring the artifacts up to date: what is new or has changed is stored, what left the front removed.

    What the store has lost, as one that the study was moved to has, is stored again where this machine has it.

    Raises:
        StoreError: The store cannot be reached.
    """
    store, have = artifact_store(folder, study.user_attrs.get(PLACE)), stored(study)
    with tempfile.TemporaryDirectory() as scratch:
        wanted: dict[tuple[int | None, str], Path] = {}
        for trial in on_front:
            given, weights = own(trial), (trial._trial_id, f"{export.point_name(trial)}.pt")
            at_hand = export.checkpoint(folder, trial.number).is_file()
            if weights in have and at_hand and not there(store, have[weights]):
                remove(study, weights[0], have.pop(weights), store)
            for file in files(study, folder, trial, Path(scratch), weights in have):
                if file.name not in given:
                    wanted[trial._trial_id, file.name] = file
                elif not there(store, given[file.name]):
                    store.write(given[file.name], io.BytesIO(file.read_bytes()))
        table = Path(scratch) / CURVES
        table.write_text(curves(export.trained(study)), encoding="utf-8")
        wanted[None, CURVES] = table
        for key in have.keys() - wanted.keys():
            remove(study, key[0], have[key], store)
        for key, file in wanted.items():
            if key not in have:
                with suppress(FileNotFoundError):  # weights of a trial that left the front this moment
                    add(study, key[0], file, store)
            elif file.suffix != ".pt" and read(store, have[key]) != (content := file.read_bytes()):
                store.write(have[key], io.BytesIO(content))
    return store


def files(study: optuna.Study, folder: Path, trial: FrozenTrial, scratch: Path, kept: bool) -> Iterator[Path]:
    """Write a point's files; weights that are ``kept`` already stand there empty."""
    name, weights = export.point_name(trial), export.checkpoint(folder, trial.number)
    yaml, pt = scratch / f"{name}.yaml", scratch / f"{name}.pt"
    if kept:
        pt.touch()
    elif weights.is_file():
        stand_in(weights, pt)
    yaml.write_text(export.yaml_text(study, trial, name, pt.is_file()), encoding="utf-8")
    yaml.with_suffix(".json").write_text(json.dumps(export.card(study, trial), indent=2) + "\n", encoding="utf-8")
    yaml.with_suffix(".csv").write_text(curve(trial.user_attrs["score"]), encoding="utf-8")
    model_card.write(yaml, export.train_command(study))
    yield from (file for ending in KINDS if (file := yaml.with_suffix(ending)).is_file())


def stand_in(file: Path, name: Path) -> None:
    """A file under another name: a link, or a copy where the system makes none; nothing where it is gone by now."""
    try:
        name.symlink_to(file.resolve())
    except OSError:
        with suppress(FileNotFoundError):
            shutil.copyfile(file, name)


def stored(study: optuna.Study) -> dict[tuple[int | None, str], str]:
    """Our files that were given to the study (None) or to finished trials (their id), by name: the artifacts' ids.

    Optuna's own listing fails where one was removed.
    """
    attrs, found = study._storage.get_study_system_attrs(study._study_id), {}
    for key, value in attrs.items():
        meta = json.loads(value) if (match := LATER.fullmatch(key)) else None
        if match and meta and OURS.fullmatch(meta["filename"]) and key.endswith(f":{meta['artifact_id']}"):
            found[int(match[1]) if match[1] else None, meta["filename"]] = meta["artifact_id"]
    return found


def own(trial: FrozenTrial) -> dict[str, str]:
    """What a trial was given while it ran: name -> artifact's id."""
    metas = [json.loads(value) for key, value in trial.system_attrs.items() if key.startswith(PREFIX)]
    return {m["filename"]: m["artifact_id"] for m in metas if m}


def links(study: optuna.Study, trial: FrozenTrial, have: Mapping[tuple[int | None, str], str]) -> str:
    """Markdown: the files of a trial to download."""
    names = own(trial) | {name: artifact for (owner, name), artifact in have.items() if owner == trial._trial_id}
    root = f"/artifacts/{study._study_id}/{trial._trial_id}"
    ends = {Path(name).suffix: f"{root}/{artifact}" for name, artifact in names.items()}
    return " ".join(f"[{end.removeprefix('.')}]({ends[end]})" for end in KINDS if end in ends)


def name_of(study: optuna.Study, artifact: str) -> str | None:
    """What an artifact is called."""
    attrs = study._storage.get_study_system_attrs(study._study_id)
    for holder in (attrs, *(t.system_attrs for t in study.get_trials(deepcopy=False))):
        for key, value in holder.items():
            if PREFIX in key and key.endswith(f":{artifact}") and (meta := json.loads(value)):
                return str(meta["filename"])
    return None


def read(store: ArtifactStore, artifact: str) -> bytes | None:
    """What is stored; None where it is on another machine."""
    try:
        with store.open_reader(artifact) as file:
            return file.read()
    except ArtifactNotFound:
        return None


def attribute(trial_id: int | None, artifact: str) -> str:
    """Where the study keeps an artifact: of its own, or the dashboard's way of giving one to a finished trial."""
    return f"{PREFIX}{artifact}" if trial_id is None else f"dashboard:{PREFIX}{trial_id}:{artifact}"


def add(study: optuna.Study, trial_id: int | None, file: Path, store: ArtifactStore) -> None:
    """Attach a file to a study, or to a finished trial of it, which Optuna itself has closed."""
    artifact = str(uuid.uuid4())
    with file.open("rb") as content:
        store.write(artifact, content)
    meta = {"artifact_id": artifact, "filename": file.name, "mimetype": KINDS[file.suffix], "encoding": None}
    study._storage.set_study_system_attr(study._study_id, attribute(trial_id, artifact), json.dumps(meta))


def remove(study: optuna.Study, trial_id: int | None, artifact: str, store: ArtifactStore) -> None:
    """Take an artifact away as the dashboard does it."""
    with suppress(ArtifactNotFound):
        store.remove(artifact)
    study._storage.set_study_system_attr(study._study_id, attribute(trial_id, artifact), json.dumps(None))
