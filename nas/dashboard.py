"""Goes in: a study. Comes out: the Optuna dashboard on it, with metric names, notes and artifacts."""

from __future__ import annotations

import ipaddress
import socket
import tempfile
from html import escape
from pathlib import Path

import optuna
import optuna_dashboard
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna.trial import FrozenTrial

from nas import export, report, task
from nas.recipe import RecipeError, near
from nas.storage import open_storage


def find(which: str, storage: str | None = None, output: str = "runs") -> tuple[optuna.Study, Path]:
    """A study by its name or its folder, or by its name in any storage.

    Raises:
        RecipeError: There is none; says which there are.
    """
    folder = Path(which) if (Path(which) / "study.db").is_file() else Path(output) / which
    if storage is None:
        database = folder / "study.db"
        if not database.is_file():
            there = sorted(p.parent.name for p in Path(output).glob("*/study.db"))
            raise RecipeError(
                f"study {which!r} not found in {output}/; there are: {', '.join(there) or 'none'}{near(which, there)}"
            )
        storage = f"sqlite:///{database.resolve()}"
    opened = open_storage(storage)
    names = [s.study_name for s in optuna.get_all_study_summaries(opened, include_best_trial=False)]
    name = folder.name if folder.name in names else which
    if name not in names:
        raise RecipeError(f"storage has no study {name!r}; it has: {', '.join(names) or 'none'}{near(name, names)}")
    study = optuna.load_study(study_name=name, storage=opened)
    if "ready" not in study.user_attrs:
        raise RecipeError(f"study {name!r} was not made by `nas search`")
    return study, folder


def dress(study: optuna.Study, folder: Path) -> FileSystemArtifactStore:
    """Write the study's note, the Pareto picture and the front's files; again adds what is new.

    Each trial's own note and YAML were written while it ran: Optuna closes a finished trial. The dashboard's own
    Pareto chart stays; ours carries names, the base and the placements.
    """
    store = artifact_store(folder)
    on_front = export.front_trials(study)
    optuna_dashboard.save_note(study, study_note(study, on_front))
    if on_front:
        optuna_dashboard.save_plotly_graph_object(study, report.pareto_figure(study), graph_object_id="pareto")
    have = {a.filename for a in get_all_artifact_meta(study)}
    with tempfile.TemporaryDirectory() as scratch:
        for trial in on_front:
            yaml = export.write_point(study, folder, trial, Path(scratch))
            for file in (yaml, yaml.with_suffix(".json"), yaml.with_suffix(".pt")):
                if file.is_file() and file.name not in have:
                    upload(study, file, store)
    return store


def artifact_store(folder: Path) -> FileSystemArtifactStore:
    """The study's artifacts, in its folder."""
    place = folder / "artifacts"
    place.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(place)


def upload(target: optuna.Study | optuna.Trial, file: Path, store: FileSystemArtifactStore) -> None:
    """Attach a file to a study or a running trial."""
    kind = {".json": "application/json", ".yaml": "text/yaml"}.get(file.suffix)
    upload_artifact(artifact_store=store, file_path=str(file), study_or_trial=target, mimetype=kind)


def serve(study: optuna.Study, folder: Path, host: str, port: int) -> None:
    """Serve the dashboard until it is interrupted."""
    store = dress(study, folder)
    optuna_dashboard.run_server(study._storage, host=host, port=port, artifact_store=store)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) != 0


def study_note(study: optuna.Study, on_front: list[FrozenTrial]) -> str:
    """Markdown: what this study is, how to continue it, and its front."""
    recipe, metric = study.user_attrs["recipe"], task.of(study.user_attrs["base_yaml"]).metric
    two_heads = any(t.user_attrs["score"]["nms_free"] is not None for t in on_front)
    of_head = " is that of the one2many head" if two_heads else ""
    lines = [
        f"# {escape(study.study_name)}",
        f"{len(export.trained(study))} placements trained on `{recipe['data']}`, {recipe['epochs']} epochs each from "
        f"the same warm base, seed {recipe['seed']}. {metric[0].upper()}{metric[1:]}{of_head} on the val split; "
        f"latency was measured in {recipe['latency_backend']}.",
        "",
        "One short training with one seed says who is worth a longer one. It proves no difference.",
        "",
        f"| trial | {metric} |{' NMS-free |' * two_heads} latency | GFLOPs | placement |",
        f"|---:|---:|{'---:|' * two_heads}---:|---:|---|",
    ]
    for t in on_front:
        score, cost = t.user_attrs["score"], t.user_attrs["cost"]
        nms_free = f" {score['nms_free']:.4f} |" if two_heads else ""
        lines.append(
            f"| {t.number} | {score['value']:.4f} |{nms_free} "
            f"x{cost['latency']['ratio']:.3f} | {cost['gflops']:.3f} | {escape(t.user_attrs['label'])} |"
        )
    lines += ["", f"Continue it: `python -m nas search --recipe {Path(study.user_attrs['folder']) / 'recipe.yaml'}`"]
    return "\n".join(lines)
