"""In: an environment with the project. Out: what its start-up file adds to the start of a Python process, in ms.

    python scripts/bench_startup.py --runs 200 --json

Starts Python with nothing to do in two empty virtual environments in turn, one of them with the start-up files, and
gives the median of the paired differences with its quartiles. Beside it the time that `-X importtime` states for the
one module, with its bytecode as installers leave it, and compiled anew (no installer and no earlier start wrote any).
"""

from __future__ import annotations

import argparse
import json
import os
import py_compile
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
FILES = ("yolo_attention_nas_startup.py", "yolo_attention_nas_startup.pth")


def environment(folder: Path, with_hook: bool) -> Path:
    """An empty virtual environment, with or without the two start-up files; its interpreter."""
    venv.create(folder, symlinks=os.name != "nt", with_pip=False)
    names = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=names))
    if with_hook:  # with its bytecode, as installers leave it or the first start writes it
        (packages / FILES[0]).write_bytes((REPO / FILES[0]).read_bytes())
        (packages / FILES[1]).write_bytes((REPO / "nas" / "assets" / FILES[1]).read_bytes())
        py_compile.compile(str(packages / FILES[0]))
    return Path(sysconfig.get_path("scripts", "venv", vars=names)) / ("python.exe" if os.name == "nt" else "python")


def start_ms(python: Path) -> float:
    """Wall time of one process that does nothing."""
    start = time.perf_counter()
    subprocess.run([python, "-c", "pass"], check=True)
    return (time.perf_counter() - start) * 1000


def importtime_us(python: Path, *flags: str) -> int:
    """Cumulative time of the start-up module, the smallest of twenty starts."""
    command = [python, *flags, "-X", "importtime", "-c", "pass"]
    found = []
    for _ in range(20):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        lines = [line for line in done.stderr.splitlines() if line.endswith("yolo_attention_nas_startup")]
        found.append(int(lines[0].split("|")[1]))
    return min(found)


def main() -> None:
    """Measure in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="pairs of starts")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    args = parser.parse_args()
    for name in ("PYTHONPATH", "YOLO_ATTENTION_NAS"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        without, with_ = (environment(Path(folder) / str(k), bool(k)) for k in (0, 1))
        for python in (without, with_) * 5:  # files into the cache, bytecode written
            start_ms(python)
        pairs = []
        for k in range(args.runs):
            first, second = (without, with_) if k % 2 else (with_, without)
            times = {first: start_ms(first), second: start_ms(second)}
            pairs.append((times[without], times[with_]))
        module_us = importtime_us(with_)
        source_us = importtime_us(with_, "-B", "-X", f"pycache_prefix={folder}/none")
    low, added, high = statistics.quantiles([b - a for a, b in pairs], n=4)
    base = statistics.median(a for a, _ in pairs)
    print(f"Python {sys.version.split()[0]} alone starts in {base:.2f} ms (median of {args.runs})")
    print(f"the start-up file adds {added:.2f} ms (median of pairs; quartiles {low:.2f} to {high:.2f})")
    print(f"-X importtime: {module_us} us for the module, {source_us} us without bytecode (smallest of 20)")
    if args.json:
        result = {
            "added_ms": round(added, 3), "quartiles_ms": [round(low, 3), round(high, 3)], "base_ms": round(base, 3),
            "importtime_us": module_us, "importtime_source_us": source_us, "runs": args.runs,
        }  # fmt: skip
        print(json.dumps(result))


if __name__ == "__main__":
    main()
