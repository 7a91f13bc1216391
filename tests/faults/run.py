"""Rounds of faults at length: `python tests/faults/run.py --rounds 40 --to faults.csv`; one line a round, then a table.

Instant trainings unless `--real`. `--kinds` takes a part of the kinds (a piece of the name). Full disks and read-only
ones need the right to mount; PostgreSQL is the tests' own.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import shutil
import sys
import tempfile
import traceback
from contextlib import nullcontext
from dataclasses import asdict, fields
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "integration")]

import pandas as pd  # noqa: E402
from conftest import SCRATCH  # noqa: E402, F401  sets the surroundings
from postgres_support import running  # noqa: E402

from faults import rounds, world  # noqa: E402

BAD = ["lost", "twice", "missed", "running", "other_front"]


def main() -> int:
    """Run them; 1 where an invariant was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each kind")
    parser.add_argument("--kinds", default="", help="pieces of their names, by commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true", help="real trainings")
    parser.add_argument("--sqlite", action="store_true", help="no PostgreSQL")
    parser.add_argument("--to", type=Path, default=Path("faults.csv"))
    args = parser.parse_args()
    parts = [p for p in args.kinds.split(",") if p]
    kinds = [k for k in rounds.KINDS if not parts or any(p in k for p in parts)]
    home = Path(tempfile.mkdtemp(prefix="nas-faults-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    made = world.make(home / "world", args.real)
    broken = 0
    with nullcontext() if args.sqlite else running() as postgres, args.to.open("a", newline="") as file:
        out = csv.DictWriter(file, [*(f.name for f in fields(rounds.Verdict)), "error"], lineterminator="\n")
        if not file.tell():
            out.writeheader()
        for number in range(args.rounds):
            for kind in kinds:
                name = f"r{args.seed}-{number}-{kinds.index(kind)}"
                place = rounds.Place(made, home / "rounds", postgres, random.Random(f"{args.seed} {kind} {number}"))
                place.home.mkdir(exist_ok=True)
                try:
                    row = {**asdict(rounds.KINDS[kind](place, name)), "error": ""}
                    bad = any(row[key] for key in BAD)
                except Exception as e:
                    traceback.print_exc()
                    row, bad = {"kind": kind, "error": f"{type(e).__name__}: {e}"[:3000]}, True
                broken += bad
                out.writerow(row)
                file.flush()
                print("BAD " if bad else "ok  ", name, row, flush=True)
                if not bad:
                    shutil.rmtree(place.home, ignore_errors=True)
    print(table(args.to))
    sys.stdout.flush()
    os._exit(int(bool(broken)))  # torch tells of its own garbage, which is frozen


def table(file: Path) -> str:
    """Rounds by kind, and what was broken in them."""
    frame = pd.read_csv(file)
    frame["failed"] = frame["error"].notna().astype(int)
    whole = frame.groupby("kind")[[*BAD, "failed", "repeated", "starts"]].sum().astype(int)
    whole.insert(0, "rounds", frame.groupby("kind").size())
    whole["seconds"] = frame.groupby("kind")["seconds"].median().round(1)
    rows = [["kind", *whole.columns], ["-"] * (1 + len(whole.columns))]
    rows += [[kind, *values] for kind, values in zip(whole.index, whole.values.tolist(), strict=True)]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


if __name__ == "__main__":
    raise SystemExit(main())
