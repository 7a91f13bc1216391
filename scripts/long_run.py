"""In: a number of placements. Out: what a long search in one worker takes: memory, handles, threads, files, seconds.

    python scripts/long_run.py [--trials 300] [--output runs/long]

A real search with real trainings, `python -m nas search --workers 1`, of a tiny detector on tiny pictures, in a home of
its own: own folder for temporary files, own caches. Once a second both processes are looked at, the supervisor and its
worker; every 25 trials the files are counted. Written are long.csv (a row a second and process) and files.csv (a row
every 25 trials); printed are a table and a verdict: how the memory that belongs to a process alone grows from trial 50
on, and handles, threads and temporary files then and at the end. The exit status is 1 where any of these has grown.
"""

from __future__ import annotations

import argparse
import csv
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import yaml

REPO = Path(__file__).resolve().parents[1]
MIB = 2**20
PERIOD = 1.0  # seconds between two looks
BETWEEN, BIN = 25, 10  # trials between two counts of files; trials whose samples are averaged for the slope
SETTLED = 50  # trials after which nothing may grow
SPREAD = 2  # handles or threads that come and go with the moment of the look
GROWTH = {"supervisor": 3.0, "worker": 5.0}  # MiB for 100 trials: a study of more trials is more to hold

BASE = """\
nc: 2
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, C2f, [16, True]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, SPPF, [32, 5]]
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 4], 1, Concat, [1]]
  - [-1, 1, C2f, [32]]
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 3], 1, Concat, [1]]
  - [-1, 1, C2f, [16]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [[-1, 9], 1, Concat, [1]]
  - [-1, 1, C2f, [32]]
  - [[12, 15], 1, v10Detect, [nc]]
"""
SPACE = {  # 1331 placements
    "max_blocks": 3,
    "blocks": ["cot", "eca", "mhsa", "mobilevit", "parnet", "s2", "shuffle", "simam", "sk", "triplet"],
    "sites": ["backbone.p4", "neck.p3", "neck.p4"],
}


@dataclass(frozen=True)
class Look:
    """A process at one moment: seconds since the start, trials that have ended, and what it holds."""

    seconds: float
    trials: int
    who: str
    pid: int
    rss_mib: float
    uss_mib: float
    handles: int
    threads: int
    children: int


@dataclass(frozen=True)
class Files:
    """What lies where after so many trials; the logs are those of the study's folder, the latest first."""

    trials: int
    seconds: float
    study: int
    study_mib: float
    temp: int
    temp_mib: float
    cache: int
    cache_mib: float
    log_kib: float
    older_logs: int
    older_logs_kib: float


@dataclass
class Run:
    """A search that was looked at: its looks, its files, when each trial ended, and what it said last."""

    looks: list[Look] = field(default_factory=list)
    files: list[Files] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    status: int | None = None


def make_data(root: Path, train: int = 8, val: int = 4, size: int = 64) -> Path:
    """Noise with one red and one green rectangle a picture; the path of its data.yaml."""
    draw = np.random.default_rng(7)
    for split, count in (("train", train), ("val", val), ("test", val)):
        images, labels = root / "images" / split, root / "labels" / split
        images.mkdir(parents=True), labels.mkdir(parents=True)
        for i in range(count):
            image, lines = draw.integers(0, 60, (size, size, 3), dtype=np.uint8), []
            for c, colour in enumerate(((40, 40, 255), (40, 255, 40))):
                w, h = draw.integers(size // 4, size // 2, 2)
                x, y = draw.integers(0, size - w), draw.integers(0, size - h)
                image[y : y + h, x : x + w] = colour
                box = ((x + w / 2) / size, (y + h / 2) / size, w / size, h / size)
                lines.append(" ".join([str(c), *(f"{v:.6f}" for v in box)]))
            cv2.imwrite(str(images / f"{i}.png"), image)
            (labels / f"{i}.txt").write_text("\n".join(lines) + "\n")
    file = root / "data.yaml"
    file.write_text("train: images/train\nval: images/val\ntest: images/test\nnames:\n  0: red\n  1: green\n")
    return file


def make_recipe(home: Path, trials: int, warm: int) -> Path:
    """A recipe whose trial takes about a second, with all that a long search uses: rungs, the model of `ehvi`.

    Args:
        warm: Epochs of the base; without any no score differs from 0, and all are trained to the end.
    """
    (home / "base.yaml").write_text(BASE)
    (home / "space.yaml").write_text(yaml.safe_dump(SPACE))
    recipe = {
        "name": "long", "data": str(make_data(home / "data")), "base": str(home / "base.yaml"), "weights": "none",
        "space": str(home / "space.yaml"), "objectives": ["map", "gflops"], "sampler": "ehvi", "rungs": 2,
        "trials": trials, "warm_epochs": warm, "warm_lr0": 0.01, "epochs": 2,
        "latency_runs": 3, "finalists": 0, "slots": 1, "output": str(home / "runs"),
        "train": {"imgsz": 64, "batch": 4, "workers": 0, "device": "cpu", "cache": "ram"},
    }  # fmt: skip
    file = home / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    return file


def surroundings(home: Path) -> dict[str, str]:
    """The environment of a search that writes nowhere but below ``home``."""
    own = {"TMPDIR": "temp", "XDG_CACHE_HOME": "cache", "YOLO_CONFIG_DIR": "config", "MPLCONFIGDIR": "config"}
    for folder in own.values():
        (home / folder).mkdir(exist_ok=True)
    path = os.pathsep.join(filter(None, (str(REPO), os.environ.get("PYTHONPATH"))))
    fixed = {"PYTHONPATH": path, "YOLO_OFFLINE": "true", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return {**os.environ, **fixed, **{name: str(home / folder) for name, folder in own.items()}, "COLUMNS": "200"}


def search(home: Path, trials: int, output: Path | None = None, warm: int = 100, between: int = BETWEEN) -> Run:
    """Run the search and look at it until it ends; what was seen is written to ``output`` as it grows."""
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-u", "-m", "nas", "search", "--recipe", str(make_recipe(home, trials, warm))]
    process = subprocess.Popen(
        [*command, "--workers", "1"],
        cwd=home, env=surroundings(home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: [lines.put(x) for x in process.stdout or ()], daemon=True).start()
    found, start, counted = Run(), time.monotonic(), -1
    try:
        while process.poll() is None:
            time.sleep(PERIOD)
            now = time.monotonic() - start
            hear(lines, found, now)
            found.looks += look(process.pid, now, len(found.ended))
            if len(found.ended) // between > counted:
                counted = len(found.ended) // between
                found.files.append(count_files(home, len(found.ended), now))
                write(found, output)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
    hear(lines, found, time.monotonic() - start)
    found.files.append(count_files(home, len(found.ended), time.monotonic() - start))
    found.status = process.returncode
    write(found, output)
    return found


def hear(lines: queue.Queue[str], found: Run, now: float) -> None:
    """Note what it has said since: a line a trial."""
    while not lines.empty():
        line = lines.get()
        found.said.append(line)
        if line.startswith("[") and " trial " in line:
            found.ended.append(now)


def look(supervisor: int, now: float, trials: int) -> list[Look]:
    """At the supervisor and at its worker, where they are."""
    try:
        parent = psutil.Process(supervisor)
        workers = [p for p in parent.children() if "nas.worker" in p.cmdline()]
    except psutil.Error:
        return []
    found = []
    for who, process in (("supervisor", parent), *(("worker", p) for p in workers)):
        try:
            memory, children = process.memory_full_info(), process.children()
            held = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
            sizes = memory.rss / MIB, memory.uss / MIB
            found.append(Look(now, trials, who, process.pid, *sizes, held, process.num_threads(), len(children)))
        except psutil.Error:  # it has just ended
            continue
    return found


def count_files(home: Path, trials: int, now: float) -> Files:
    """What lies where."""
    study = home / "runs" / "long"
    older = [p for p in study.glob("log.*.txt")]
    sizes: list[float] = []
    for folder in (study, home / "temp", home / "cache"):
        bytes_of = [size_of(p) for p in folder.rglob("*") if not p.is_dir()]
        sizes += [len(bytes_of), sum(bytes_of) / MIB]
    log = size_of(study / "log.txt") / 1024
    return Files(trials, now, *sizes, log, len(older), sum(map(size_of, older)) / 1024)  # type: ignore[arg-type]


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where it has just gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def slope(looks: Sequence[Look], since: int) -> tuple[float, float]:
    """MiB of a process's own memory for 100 trials, least squares over means of BIN trials, and its standard error."""
    bins: dict[int, list[tuple[int, float]]] = {}
    for one in looks:
        if one.trials >= since:
            bins.setdefault(one.trials // BIN, []).append((one.trials, one.uss_mib))
    points = np.array([np.mean(part, axis=0) for part in bins.values()])
    if len(points) < 3:
        return float("nan"), float("nan")
    x, y = points[:, 0] / 100, points[:, 1]
    spread = float(((x - x.mean()) ** 2).sum())
    rise = float(((x - x.mean()) * (y - y.mean())).sum() / spread)
    rest = y - y.mean() - rise * (x - x.mean())
    return rise, float(np.sqrt((rest**2).sum() / (len(x) - 2) / spread))


def around(looks: Sequence[Look], name: str, trials: int, width: int = 5) -> float:
    """Median of what was seen near a number of trials."""
    return float(np.median([getattr(x, name) for x in looks if abs(x.trials - trials) <= width] or [np.nan]))


def verdict(found: Run, since: int = SETTLED) -> tuple[list[str], list[str]]:
    """What is to be said of a run, and what has grown."""
    said, grown = [], []
    last = len(found.ended)
    since = min(since, last // 3)
    for who in ("supervisor", "worker"):
        looks = [x for x in found.looks if x.who == who]
        rise, error = slope(looks, since)
        said.append(f"{who}: USS {rise:+.2f} +- {error:.2f} MiB for 100 trials from trial {since} on")
        if rise - 2 * error > GROWTH[who]:
            grown.append(f"{who}: memory")
        for name in ("handles", "threads", "children"):
            first, now = around(looks, name, since), around(looks, name, last)
            said.append(f"{who}: {name} {first:.0f} at trial {since}, {now:.0f} at trial {last}")
            if now > first + SPREAD:
                grown.append(f"{who}: {name}")
    at, end = next(f for f in found.files if f.trials >= since), found.files[-1]
    said.append(f"temporary files: {at.temp} at trial {at.trials}, {end.temp} ({end.temp_mib:.1f} MiB) after the end")
    said.append(f"cache: {at.cache} files at trial {at.trials}, {end.cache} ({end.cache_mib:.1f} MiB) after the end")
    grown += [name for name in ("temp", "cache") if getattr(end, name) > getattr(at, name)]
    first, now = seconds_each(found, since, since + 50), seconds_each(found, last - 50, last)
    said.append(f"seconds a trial: {first:.2f} after trial {since}, {now:.2f} before trial {last}")
    return said, grown


def seconds_each(found: Run, first: int, last: int) -> float:
    """Mean over the trials from one to another."""
    first, last = max(1, first), min(last, len(found.ended))
    return (found.ended[last - 1] - found.ended[first - 1]) / max(1, last - first)


def table(found: Run, step: int = 50) -> list[str]:
    """A line every so many trials."""
    head = "trials   s/trial  supervisor: RSS   USS  handles threads   worker: RSS   USS  handles threads"
    lines = [f"{head}   study files/MiB   temp  cache  log KiB"]
    last = len(found.ended)
    for n in sorted({*range(step, last, step), last}):
        files = min(found.files, key=lambda f: abs(f.trials - n))
        parts = [f"{n:6d} {seconds_each(found, n - step, n):9.2f}"]
        for who, width in (("supervisor", 17), ("worker", 14)):
            looks = [x for x in found.looks if x.who == who]
            rss, uss, held, threads = (around(looks, k, n) for k in ("rss_mib", "uss_mib", "handles", "threads"))
            parts.append(f"{rss:{width}.1f} {uss:5.1f} {held:8.0f} {threads:7.0f}")
        logs = files.log_kib + files.older_logs_kib
        parts.append(f"{files.study:8d}/{files.study_mib:.1f} {files.temp:9d} {files.cache:6d} {logs:8.0f}")
        lines.append(" ".join(parts))
    return lines


def write(found: Run, folder: Path | None) -> None:
    """long.csv, files.csv, and what the search said, where they are asked for."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, kind, rows in (("long", Look, found.looks), ("files", Files, found.files)):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            out = csv.DictWriter(file, [f.name for f in fields(kind)])  # type: ignore[arg-type]
            out.writeheader()
            out.writerows(map(rounded, rows))  # type: ignore[arg-type]
    (folder / "said.txt").write_text("".join(found.said), encoding="utf-8")


def rounded(row: Any) -> Mapping[str, Any]:
    """A row as it is written."""
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(row).items()}


def main() -> int:
    """Run, look, write down and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=300, help="distinct placements")
    parser.add_argument("--output", type=Path, help="where long.csv, files.csv and said.txt go")
    parser.add_argument("--home", type=Path, help="folder of the run, which stays; by default one that goes")
    args = parser.parse_args()
    home = args.home or Path(tempfile.mkdtemp(prefix="nas-long-"))
    try:
        found = search(home.resolve(), args.trials, args.output)
    finally:
        if args.home is None:
            shutil.rmtree(home, ignore_errors=True)
    if found.status != 0:
        print("".join(found.said[-20:]), f"the search ended with exit status {found.status}", sep="\n")
        return 1
    said, grown = verdict(found)
    print("\n".join([*table(found), *said, f"grown: {', '.join(grown) or 'nothing'}"]))
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
