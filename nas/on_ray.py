"""Goes in: a study in a database that a Ray cluster reaches. Comes out: it searched by workers that Ray places.

An actor is `python -m nas worker` on some node, with its part of a GPU. Ray decides where it runs and starts it again
where a node is lost; the study's own database decides what it trains.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna

from nas import announce, export, slots, turn
from nas.display import Display
from nas.hidden import VARIABLE, hide
from nas.recipe import Recipe, RecipeError
from nas.setting import Setting
from nas.study import SearchStopped

LAST = 2000  # characters of what a worker said that its node sends back
PATIENCE = 60.0  # seconds for the other workers once one says that nothing is left
PATHS = ("data", "weights", "base", "space")


def connect(r: Recipe) -> None:
    """Join the cluster, before anything is spent.

    Raises:
        RecipeError: Ray is not here, there is no cluster at this address, or the study would be where no other machine
            reaches it.
    """
    if not (r.storage or "").startswith("postgresql"):
        raise RecipeError(f"--ray {r.ray}: the workers of a cluster need --storage postgresql+psycopg://...")
    try:
        import ray
    except ImportError as e:
        raise RecipeError(f"--ray {r.ray}: Ray is not installed here: pip install 'yolo-attention-nas[ray]'") from e
    try:
        knock(str(r.ray))
        ray.init(address=r.ray, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    except (ConnectionError, RuntimeError, ValueError, AssertionError, OSError) as e:
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise RecipeError(f"--ray {r.ray}: no cluster there: {reason}; 'ray start --head' makes one") from e


def knock(address: str) -> None:
    """See whether anybody listens there: Ray itself asks for minutes.

    Raises:
        OSError: Nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def run(study: optuna.Study, setting: Setting, display: Display, todo: int) -> None:
    """Train by the cluster's workers until the asked number is there; keep csv and front current.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM.
        SearchStopped: The workers ended before the asked number was reached; says why.
    """
    import ray

    count, options = parts(setting, todo, ray.cluster_resources())
    display.say(f"workers: {count} on {len(ray.nodes())} nodes of {setting.recipe.ray}, each with {told(options)}")
    display.workers = count
    actor: Any = ray.remote(max_restarts=-1, max_task_retries=-1, **options)(Worker)
    seen = {t.number for t in study.get_trials(deepcopy=False) if t.state.is_finished()}
    with turn.interruptible():
        actors = [actor.remote() for _ in range(count)]
        try:
            argv, env = command(setting), environment(setting, options)
            reasons = watch(study, setting, display, [a.run.remote(argv, env) for a in actors], seen)
        finally:
            for one in actors:
                ray.kill(one)
            announce.new(study, setting, display, seen)
    if reasons and len(export.trained(study)) < setting.recipe.trials:
        raise SearchStopped(reasons[-1])


def parts(setting: Setting, todo: int, resources: dict[str, float]) -> tuple[int, dict[str, Any]]:
    """How many workers, and each one's part of the cluster, as Ray takes it."""
    asked = setting.recipe.slots
    if setting.device.type == "cuda":
        each = asked if isinstance(asked, int) and asked > 0 else 1
        total = max(1, int(resources.get("GPU", 0))) * each
        return min(total, max(1, todo)), {"num_gpus": 1 / each, "num_cpus": 1}
    cpus = max(1, int(resources.get("CPU", 1)))
    count = min(asked if isinstance(asked, int) and asked > 0 else cpus, cpus, max(1, todo))
    return count, {"num_cpus": max(1, cpus // count)}


def told(options: dict[str, float]) -> str:
    """``1 CPU, 0.5 GPU``."""
    return ", ".join(
        f"{value:g} {key.removeprefix('num_').removesuffix('s').upper()}" for key, value in options.items()
    )


def command(setting: Setting) -> list[str]:
    """`worker`, with this machine's paths made whole; the storage goes by the environment, where nobody sees it."""
    r = setting.recipe
    found = [
        "-m",
        "nas",
        "worker",
        hide(str(r.storage)),
        str(r.name),
        "--workers",
        "1",
        "--output",
        str(Path(r.output).resolve()),
    ]
    for key in PATHS:
        value = getattr(r, key)
        if value and Path(value).exists():
            found += [f"--{key}", str(Path(value).resolve())]
    for file in r.modules:
        found += ["--modules", str(Path(file).resolve())]
    return found


def environment(setting: Setting, options: dict[str, float]) -> dict[str, str]:
    """What a worker finds beside its node's own."""
    path = os.pathsep.join(dict.fromkeys(p or os.getcwd() for p in sys.path))
    threads = slots.share(1) if setting.device.type == "cuda" else int(options["num_cpus"])
    return {
        VARIABLE: str(setting.recipe.storage),
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": str(threads),
    }


def watch(study: optuna.Study, setting: Setting, display: Display, waiting: list[Any], seen: set[int]) -> list[str]:
    """Show what is finished until a worker says that nothing is left, or none is; why they ended."""
    import ray

    reasons: list[str] = []
    stale, end = time.monotonic(), float("inf")
    while waiting and time.monotonic() < end:
        ready, waiting = ray.wait(waiting, timeout=turn.PAUSE)
        for one in ready:
            try:
                code, said = ray.get(one)
            except ray.exceptions.RayError as e:
                code, said = 1, f"{type(e).__name__}: {str(e).strip().splitlines()[0]}"
            if code == 0:
                end = min(end, time.monotonic() + PATIENCE)
            else:
                reasons.append(f"a worker ended with {code}: {said}")
                display.say(reasons[-1])
        if time.monotonic() - stale > announce.STALE:
            optuna.storages.fail_stale_trials(study)
            stale = time.monotonic()
        announce.new(study, setting, display, seen)
    return reasons


class Worker:
    """One actor: a supervisor of one process that trains, on the node and with the devices that Ray gives it."""

    def run(self, argv: list[str], env: dict[str, str]) -> tuple[int, str]:
        """Work until nothing is left; the exit status, and the last of what was said.

        Raises:
            RuntimeError: It was killed; Ray starts it again.
        """
        process = subprocess.Popen(
            [sys.executable, "-u", *argv],
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_ends_with_me,
        )
        said, _ = process.communicate()
        return process.returncode, " ".join(said[-LAST:].split())


def _ends_with_me() -> None:
    """In the new process: SIGTERM when the actor's process is gone (Linux)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
