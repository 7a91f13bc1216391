"""In: a folder, a storage. Out: a setting of the article's space without a dataset; a PostgreSQL of one's own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from ultralytics.nn.tasks import yaml_model_load

from nas import cost, fit, graph, recipe, task
from nas.setting import Setting
from search_spaces import Placement, load

IMGSZ = 320
LATENCY = cost.Latency(
    ms=10.0, iqr_ms=0.1, base_ms=10.0, ratio=1.0, runs=30, device="cpu", dtype="torch.float32", threads=2,
    imgsz=IMGSZ, batch=1, head="one2one", backend="torch",
)  # fmt: skip


def setting_of(folder: Path, name: str, trials: int, url: str, rungs: int = 2) -> Setting:
    """YOLOv10n and the space `article`; what it needs of a dataset is named and not there."""
    r = recipe.Recipe(
        name=name, weights="none", base="yolov10n.yaml", trials=trials, rungs=rungs, storage=url, output=str(folder)
    )
    yaml = yaml_model_load("yolov10n.yaml")
    found = graph.sites(yaml)
    space = fit.fit(load(r.space), found, IMGSZ, r.wire, [], [])
    dataset: Any = SimpleNamespace(names={0: "0", 1: "1"}, split="val", images={}, labels={}, digest="none")
    setting = Setting(
        recipe=r.model_copy(update={"train": {**r.train, "imgsz": IMGSZ}}),
        task=task.of(yaml),
        dataset=dataset,
        reported=dataset,
        space=space,
        yaml=dict(yaml),
        sites={s.name: s for s in found if s.name in dict(space.sites)},
        start=None,
        fused=None,  # type: ignore[arg-type]
        base_cost=cost.Cost(2_775_520, 2.2, LATENCY),
        device=torch.device("cpu"),
        folder=folder / name,
        identity={"weights": "none", "wire": r.wire, "space": space.hash},
    )
    setting.folder.mkdir(parents=True, exist_ok=True)
    for site, blocks in space.sites:  # looked at once, not once a worker
        for block in blocks:
            setting.predict(Placement.of({site: block}))
    return setting


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL that is started for this and ended.

    Raises:
        SystemExit: Its binaries are not here.
    """
    initdb = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if initdb is None:
        raise SystemExit("no PostgreSQL here; install its server, or name one that runs with --storage")
    binaries, home = Path(initdb).parent, Path(tempfile.mkdtemp(prefix="nas-postgres-"))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it does not run as root
    if as_user:
        shutil.chown(home, "postgres")

    def run(*command: str) -> None:
        subprocess.run([*as_user, *command], check=True, stdout=subprocess.DEVNULL, timeout=120, cwd="/")

    run(str(binaries / "initdb"), "-D", str(home / "data"), "-U", "nas", "--auth=trust")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home} -c max_connections=300"
    run(str(binaries / "pg_ctl"), "-D", str(home / "data"), "-l", str(home / "log"), "-w", "-o", options, "start")
    try:
        yield f"postgresql+psycopg://nas@127.0.0.1:{port}/postgres"
    finally:
        run(str(binaries / "pg_ctl"), "-D", str(home / "data"), "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)
