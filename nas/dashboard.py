"""Goes in: a study. Comes out: the Optuna dashboard on it, with metric names, notes and files, kept up to date."""

from __future__ import annotations

import ipaddress
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
import optuna_dashboard
from optuna.trial import FrozenTrial

from nas import board_files, export, outcome, progress, report, wording
from nas.backends import ArtifactStore, StoreError
from nas.board_files import artifact_store as artifact_store
from nas.board_files import upload as upload
from nas.outcome import Outcome
from nas.progress import Progress, Reference
from nas.report import code, plain
from nas.status import find as find

LOOK = 10.0  # seconds between two looks at whether a study has changed
YOURS = "## Your notes"  # what a person writes below it stays
BELOW = "What stands above is written anew while the search runs; write below."
CARD = 450  # height of a picture's card in pixels: the dashboard cuts off what is below
WRITING = threading.Lock()  # a note and the picture are stored in parts: nobody is answered from half of them


def dress(study: optuna.Study, folder: Path) -> ArtifactStore:
    """Write the study's note, the Pareto picture and the front's files; again brings them up to date.

    Each trial's own note and files were written while it ran: Optuna closes a finished trial. The dashboard's own
    Pareto chart stays; ours carries names, the base and the placements.

    Raises:
        StoreError: The files could not be brought up to date; all else was.
    """
    on_front = export.front_trials(study)
    away: StoreError | None = None
    try:
        store = board_files.refresh(study, folder, on_front)
    except StoreError as e:
        away = e
    note = study_note(study, on_front)
    figure = report.pareto_figure(study).update_layout(height=CARD) if on_front else None
    with WRITING:
        old = optuna_dashboard.get_note(study)
        if (whole := with_yours(note, old, study.study_name)) != old:
            optuna_dashboard.save_note(study, whole)
        if figure is not None:
            optuna_dashboard.save_plotly_graph_object(study, figure, graph_object_id="pareto")
    if away is not None:
        raise away
    return store


def with_yours(note: str, old: str, name: str) -> str:
    """Our note with what a person wrote below it, or instead of it."""
    if YOURS in old:
        mine = old.split(YOURS, 1)[1].replace(BELOW, "", 1).strip()
    else:
        mine = "" if old.startswith(f"# {name}") else old.strip()
    return "\n\n".join(filter(None, (note, YOURS, BELOW, mine)))


def serve(study: optuna.Study, folder: Path, host: str, port: int) -> None:
    """Serve the dashboard until it is interrupted, and dress the study again whenever it has changed."""
    before: Any = state(study)
    try:
        store = dress(study, folder)
    except StoreError as e:  # the study can be read without its files; the follower tries again
        print(f"the files of the dashboard are not at hand: {e}", file=sys.stderr)
        before, store = None, artifact_store(folder, study.user_attrs.get(board_files.PLACE))
    app = in_turn(optuna_dashboard.wsgi(study._storage, artifact_store=store), study)
    ended = threading.Event()
    follower = threading.Thread(target=follow, args=(study, folder, before, ended), daemon=True)
    with make_server(host, port, app, server_class=server_of(host), handler_class=Silent) as server:
        follower.start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            ended.set()


class Server(ThreadingMixIn, WSGIServer):
    """One thread a request: a large download, or a browser's idle connection, keeps nobody waiting."""

    daemon_threads = True


def server_of(host: str) -> type[Server]:
    """A server for an address of IPv4 or IPv6."""
    six = ":" in host
    return type("Server6", (Server,), {"address_family": socket.AF_INET6}) if six else Server


class Silent(WSGIRequestHandler):
    """No line a request."""

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def in_turn(app: Callable[..., Iterable[bytes]], study: optuna.Study) -> Callable[..., Iterable[bytes]]:
    """A WSGI application that answers between two writings; an artifact is downloaded under its own name."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        parts = environ.get("PATH_INFO", "").strip("/").split("/")
        name = board_files.name_of(study, parts[-1]) if parts[0] == "artifacts" else None

        def begin(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            safe = re.sub(r"[^\w.-]", "_", name or "", flags=re.ASCII)
            return start_response(status, [*headers, ("Content-Disposition", f"attachment; filename={safe}")], *rest)

        with WRITING:
            return app(environ, begin if name else start_response)

    return answer


def follow(study: optuna.Study, folder: Path, before: Any, ended: threading.Event) -> None:
    """Look every :data:`LOOK` seconds whether a study has changed, and then dress it again."""
    told = None
    while not ended.wait(LOOK):
        try:
            now = state(study)
            if now != before:
                dress(study, folder)
                before = now
        except Exception as e:  # a database that is busy or away for a while: the next look may find it
            if str(e) != told:
                told = str(e)
                reason = " ".join(str(e).split())[:300]
                print(f"could not bring the dashboard up to date: {type(e).__name__}: {reason}", file=sys.stderr)


def state(study: optuna.Study) -> tuple[Any, ...]:
    """What the pages depend on."""
    trials = tuple((t.number, int(t.state)) for t in study.get_trials(deepcopy=False) if t.state.is_finished())
    found = study.user_attrs
    return trials, found.get("asked"), str(found.get(outcome.ATTRIBUTE))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) != 0


def study_note(study: optuna.Study, on_front: list[FrozenTrial]) -> str:
    """Markdown: what this study is, what it came to, its front, and how to continue it."""
    attrs, found = study.user_attrs, outcome.of_study(study)
    recipe, metric = attrs["recipe"], (study.metric_names or ["score"])[0]
    reference = Reference.of(recipe["objectives"], attrs["base"]["cost"]["gflops"])
    p = progress.read(study.get_trials(deepcopy=False), reference, attrs.get("asked", recipe["trials"]))
    two_heads = any(t.user_attrs["score"]["nms_free"] is not None for t in on_front)
    of_head = " of the one2many head" if two_heads else ""
    splits = sorted({t.user_attrs["score"]["split"] for t in on_front}) or ["val"]
    whole = f", {p.whole} of them to the end" if p.whole < p.trained else ""
    made = f"python -m nas search --recipe {Path(attrs['folder']) / 'recipe.yaml'} --trials {p.asked}"
    lines = [
        f"# {plain(study.study_name)}",
        "",
        *(finals(found) if found else [f"**{progress.CAVEAT}** It says who is worth a longer training."]),
        "",
        *["## The search", ""] * bool(found),
        f"{p.trained} of {wording.count(p.asked, 'placement')} trained{whole}, on {code(recipe['data'])}, "
        f"{wording.count(recipe['epochs'], 'epoch')} each from the same warm base, seed {recipe['seed']}. "
        f"Score: {metric}{of_head} on {plain(', '.join(splits))}; latency was measured in {recipe['latency_backend']}.",
        "",
        f"Best by one training: {plain(progress.best(p, metric))}."
        + (f" Worth waiting: {plain(progress.waiting(p))}." if p.trained < p.asked else ""),
        "",
        *front_table(study, on_front, p, metric, two_heads),
        "",
        "Files: `yaml` the model, `pt` its weights, `json` and `md` its card, `csv` its training curve. They stand on "
        f"the trial's page too; `{board_files.CURVES}`, below the study's charts, holds all curves.",
        "",
        *['Optuna calls a placement that is paused between two rungs "pruned".', ""] * (recipe["rungs"] > 1),
        f"It was made, and goes on, by {code(made)}",
    ]
    return "\n".join(lines)


def front_table(
    study: optuna.Study, on_front: list[FrozenTrial], p: Progress, metric: str, two_heads: bool
) -> Iterator[str]:
    """The front as a markdown table, with its files."""
    have = board_files.stored(study)
    yield f"| trial | {metric} |{' NMS-free |' * two_heads} vs base | latency | GFLOPs | placement | files |"
    yield f"|---:|---:|{'---:|' * two_heads}---:|---:|---:|---|---|"
    for t in on_front:
        score, cost, over = t.user_attrs["score"], t.user_attrs["cost"], progress.gain(t, p.base)
        nms_free = f" {score['nms_free']:.4f} |" if two_heads else ""
        gain = "-" if over is None or t.user_attrs["placement"] == {} else f"{over:+.4f}"
        yield (
            f"| {t.number} | {score['value']:.4f} |{nms_free} {gain} | x{cost['latency']['ratio']:.3f} | "
            f"{cost['gflops']:.3f} | {plain(t.user_attrs['label'])} | {board_files.links(study, t, have)} |"
        )


def finals(found: Outcome) -> Iterator[str]:
    """What the finalists came to: the verdict and their table."""
    yield f"**{plain(found.sentences[0])}**" if found.sentences else "**Finalists were trained.**"
    yield from (f"{plain(s)}" for s in found.sentences[1:])
    yield ""
    about = f"points of {plain(found.metric)} over the base, {plain(found.split)}"
    yield f"| finalist | {about} | over random | over plain convolutions | latency |"
    yield "|---|---:|---:|---:|---:|"
    for e in found.entries:
        told = e.reason if e.reason else wording.gain(e.gain)
        label = e.label if e.role in (outcome.BASE, outcome.CANDIDATE) else f"{e.label} ({wording.ROLES[e.role]})"
        cells = (told, wording.gain(e.over_random), wording.gain(e.over_convolution), wording.ratio(e.latency))
        yield f"| {plain(label)} | {' | '.join(plain(cell) for cell in cells)} |"
    yield ""
    seeds = wording.count(len(found.seeds), "seed")
    epochs = wording.count(found.epochs, "epoch")
    yield f"{seeds} each, {epochs}; 95% intervals; made by {code(found.command)}"
