"""A Debian package for a test that needs one: installed where this user may, within a few minutes."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess

WAIT = ["-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::Retries=1"]


def install(package: str) -> None:
    """Try to; whoever asked looks whether it is there."""
    if not shutil.which("apt-get") or os.name != "posix" or os.geteuid() != 0:
        return
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(["apt-get", *WAIT, "update"], capture_output=True, timeout=60, env=env)
        command = ["apt-get", *WAIT, "install", "-y", "--no-install-recommends", package]
        subprocess.run(command, capture_output=True, timeout=240, env=env)
