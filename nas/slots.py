"""Goes in: a Setting and a number of trials. Comes out: how many of them train at the same time on its device.

A short training of a small model leaves a device idle between its many small steps: two processes of one thread train
more pictures a second than one of two threads, and a large GPU holds many of them. How many pay is measured.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
import ultralytics

from nas import cost
from nas.children import Child, stop
from nas.demo import cache_folder
from nas.setting import Setting, threads
from nas.warm import overrides_of

WORTH_MEASURING = 20  # trials; a search of fewer is over before it pays
TRIALS_EACH = 5  # placements that train at the same time learn nothing from each other, so not too many at once
GAIN = 1.1  # what more processes must bring
MOST = {"cpu": 64, "cuda": 16}
SECONDS = 3.0  # of training, for each number of processes
BUDGET = 20.0  # seconds after which no larger number is begun
PATIENCE = 30.0  # seconds for an answer
STARTED = 2**30  # bytes that a process with torch takes before it trains, generously
FREE = 0.8  # share of the memory now free that workers may fill


@dataclass(frozen=True)
class Speeds:
    """What was measured.

    Args:
        images: Number of processes -> images a second of all together.
        memory: Bytes that one process takes: main memory on a CPU, the card's on a GPU.
    """

    images: dict[int, float]
    memory: int


def choose(setting: Setting, todo: int, say: Callable[[str], None]) -> int:
    """Number of processes for ``todo`` trials, as the recipe says or as measured; says in a line why."""
    asked = setting.recipe.slots
    if asked != "auto":
        count = min(asked, todo)
        if asked > 1:
            say(f"workers: {count} of {counted(share(count))}, as asked")
        return count
    tried = candidates(setting.device.type, todo)
    if todo <= WORTH_MEASURING or len(tried) < 2:
        return 1
    file = cache_folder() / "slots" / f"{key(setting, tried)}.json"
    found, how = read(file), "measured before"
    if found is None:
        say(f"measuring how many placements to train at once: {', '.join(map(str, tried))} (once, some 20 seconds)")
        start = time.monotonic()
        found = measure(probe_job(setting), setting.device, tried)
        if found is None:
            say("workers: 1; the measurement failed")
            return 1
        how = f"measured in {time.monotonic() - start:.0f} s"
        write(file, found)
    room = room_for(setting, found)
    count = best(found.images, room)
    speeds = ", ".join(f"{n}: {speed:.0f}" for n, speed in found.images.items())
    limit = f"; memory is free for {room}" if room < max(found.images) else ""
    say(f"workers: {count} of {counted(share(count))}; images/s by number of workers: {speeds} ({how}){limit}")
    return count


def candidates(device: str, todo: int) -> list[int]:
    """Numbers of processes to try: powers of two and, on a CPU, the number of its cores."""
    most = min(MOST.get(device, 1), todo // TRIALS_EACH)
    if device == "cpu":
        most = min(most, threads())
    powers = [2**i for i in range(12) if 2**i <= most]
    return sorted({*powers, most}) if device == "cpu" and most == threads() else powers


def best(images: Mapping[int, float], room: int) -> int:
    """The number to use: each step up must bring a tenth more than the best before, and ``room`` hold it."""
    count = 1
    for n in sorted(images):
        if n <= room and images[n] > GAIN * images[count]:
            count = n
    return count


def share(count: int) -> int:
    """Threads of each of ``count`` processes."""
    return max(1, threads() // count)


def counted(n: int) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{n} thread{'s' * (n > 1)}"


def measure(job: Mapping[str, Any], device: torch.device, tried: list[int]) -> Speeds | None:
    """Train side by side with ever more processes until that brings nothing more; None where not even one can.

    All of them are started at once, since starting is what takes longest; those not yet needed wait.
    """
    free, begun = free_memory(device), time.monotonic()
    tried = [n for n in tried if n == 1 or n * STARTED < free_memory()]
    images: dict[int, float] = {}
    memory, room = 0, 1
    children = [Child("nas.probe", job, threads()) for _ in range(max(tried))]
    try:
        for n in tried:
            if n > 1 and (n > room or time.monotonic() - begun > BUDGET):
                break
            answers = together(children[:n], share(n))
            if answers is None:
                break
            images[n] = sum(a["images"] / a["seconds"] for a in answers)
            if n == 1:  # on a card what is gone, CUDA's own included; the others have not touched it yet
                taken = free - free_memory(device) if device.type == "cuda" else answers[0]["memory"]
                memory = max(int(taken), 1)
                room = int(FREE * free / memory)
            elif device.type == "cuda" and best(images, n) < n:
                break
    finally:
        stop(children, patience=2.0)
    return Speeds(images, memory) if images else None


def together(children: list[Child], each: int) -> list[dict[str, Any]] | None:
    """Have them train at the same time with ``each`` threads; None where one of them could not."""
    for message in ({"threads": each}, {"seconds": SECONDS}):
        for child in children:
            child.tell(message)
        end = time.monotonic() + PATIENCE
        answers = [child.hear(end - time.monotonic()) for child in children]
        if not all(answers):
            return None
    return [a for a in answers if a]


def room_for(setting: Setting, found: Speeds) -> int:
    """How many processes of this size the free memory holds; at least one."""
    free = FREE * free_memory(setting.device)
    if setting.device.type != "cuda" and overrides_of(setting, 1).get("cache") in ("ram", True):
        free -= (
            sum(setting.dataset.images.values()) * 3 * setting.recipe.imgsz**2
        )  # one copy for all, see nas/pixels.py
    return max(1, int(free / found.memory))


def free_memory(device: torch.device | None = None) -> int:
    """Bytes that can be had: the card's, or main memory's, or what is left of this container's."""
    if device is not None and device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
        return min(free, int(limit) - int(used)) if limit.isdigit() else free
    except OSError:
        return free


def probe_job(setting: Setting) -> dict[str, Any]:
    """What a probe is told: the base, and the form of its batches."""
    r, overrides = setting.recipe, overrides_of(setting, 1)
    return {
        "yaml": {k: v for k, v in setting.yaml.items() if k != "yaml_file"},
        "classes": len(setting.dataset.names),
        "channels": setting.dataset.channels,
        "imgsz": r.imgsz,
        "batch": int(overrides["batch"]),
        "device": str(setting.device),
        "bf16": overrides.get("amp") == "bf16",
        "modules": list(r.modules),
    }


def key(setting: Setting, tried: list[int]) -> str:
    """Hash of all that the speeds depend on."""
    job = {k: v for k, v in probe_job(setting).items() if k != "modules"}
    parts = [job, cost.device_name(setting.device), threads(), tried, torch.__version__, ultralytics.__version__]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def read(file: Path) -> Speeds | None:
    """What was measured before, or None."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return Speeds({int(n): float(v) for n, v in found["images"].items()}, int(found["memory"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write(file: Path, found: Speeds) -> None:
    """Keep it for the next search."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(asdict(found)), encoding="utf-8")
    part.replace(file)
