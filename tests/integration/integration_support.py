"""How to start the command as a process of its own, and what a study has trained."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
from conftest import REPO


def ids(study: optuna.Study) -> list[str]:
    """Placements of the trained trials that count."""
    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    return [t.user_attrs["placement_id"] for t in done if "duplicate_of" not in t.user_attrs]


def start(*args: Any, cwd: Path) -> subprocess.Popen[str]:
    """``python -m nas ARGS`` as a process of its own, whatever signals this one ignores."""
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "nas", *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(REPO), "COLUMNS": "200"},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )


def wait_for(process: subprocess.Popen[str], text: str, seconds: float = 180) -> list[str]:
    """Read lines until one holds ``text``."""
    lines, end = [], time.monotonic() + seconds
    assert process.stdout is not None
    while time.monotonic() < end:
        line = process.stdout.readline()
        lines.append(line)
        if text in line:
            return lines
        if not line and process.poll() is not None:
            break
    process.kill()
    raise AssertionError(f"never said {text!r}: {''.join(lines)[-3000:]}")
