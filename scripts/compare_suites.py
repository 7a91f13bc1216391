"""In: Ultralytics' own tests. Out: their passes and failures with our start-up file on and off, and what differs.

    pip download --no-deps --no-binary :all: ultralytics==8.4.190 && tar xzf ultralytics-8.4.190.tar.gz
    python scripts/compare_suites.py ultralytics-8.4.190/tests test_engine.py test_python.py

Needs an environment that the project is installed in. Each file runs on, then off, each side in a copy of the folder
with settings of its own. Offline, tests that download fail on both sides; --prepare names a script that is run on
each side first, to put weights and data where the tests look for them. Exit status 1 if a test differs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

SIDES = {"on": "1", "off": "0"}
FOLDERS = ("datasets", "weights", "runs")


def prepare(tests: Path, folder: Path, side: str, script: Path | None) -> dict[str, str]:
    """A copy of the tests in a folder of this side's own; the environment to run them in."""
    shutil.copytree(tests, folder / "tests")
    scripts = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
        "YOLO_ATTENTION_NAS": SIDES[side], "YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false", "XDG_CACHE_HOME": str(folder / "cache"), "MPLBACKEND": "Agg", "PATH": scripts,
    }  # fmt: skip
    values: dict[str, object] = {"sync": False} | {f"{name}_dir": str(folder / name) for name in FOLDERS}
    code = f"from ultralytics import settings; settings.update({values!r})"
    for command in [["-c", code], *([[str(script.resolve())]] if script else [])]:
        subprocess.run([sys.executable, *command], env=env, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return env


def outcomes(report: Path) -> dict[str, str]:
    """Test -> passed, failed, error or skipped, from a file in JUnit's format."""
    names = {"failure": "failed", "error": "error", "skipped": "skipped"}
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = [names[child.tag] for child in case if child.tag in names]
        found[f"{case.get('classname')}::{case.get('name')}"] = kinds[0] if kinds else "passed"
    return found


def main() -> int:
    """Run both sides of each file and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tests", type=Path, help="the folder tests/ of Ultralytics' source")
    parser.add_argument("files", nargs="+", help="files in it, e.g. test_engine.py")
    parser.add_argument("--prepare", type=Path, help="a Python script run on each side before")
    parser.add_argument("-k", default="", help="pytest's expression that selects tests")
    args = parser.parse_args()
    differ = 0
    with tempfile.TemporaryDirectory() as root:
        sides = {side: Path(root) / side for side in SIDES}
        envs = {side: prepare(args.tests, folder, side, args.prepare) for side, folder in sides.items()}
        for file in args.files:
            seen = {}
            for side, folder in sides.items():
                report = folder / f"{file}.xml"
                command = ["-m", "pytest", f"tests/{file}", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
                log = (folder / f"{file}.log").open("w")
                subprocess.run([sys.executable, *command, "-k", args.k], env=envs[side], cwd=folder, stdout=log)
                seen[side] = outcomes(report)
                print(file, side, dict(sorted(Counter(seen[side].values()).items())), flush=True)
            for test in sorted(seen["on"].keys() | seen["off"].keys()):
                on, off = (seen[side].get(test, "not run") for side in SIDES)
                if on != off:
                    differ += 1
                    print(f"  differs: {test}: {on} with it on, {off} with it off")
    print(f"{differ} tests differ")
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main())
