"""A PostgreSQL of the tests' own: found, or installed where this user may, and started on a free port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from apt_support import install

PASSWORD = "a-secret-of-the-tests"


def find_binaries() -> Path:
    """The folder with initdb and pg_ctl; the tests are skipped where there is none and none can be had."""
    for attempt in (1, 2):
        found = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
        if found:
            return Path(found).parent
        if attempt == 1:
            install("postgresql")
    pytest.skip("no PostgreSQL here, and no right to install it: apt-get install postgresql")


@contextmanager
def server() -> Iterator[str]:
    """A running server's URL for Optuna, with a password in it."""
    binaries = find_binaries()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it does not run as root
    home = Path(tempfile.mkdtemp(prefix="nas-postgres-"))
    if as_user:
        shutil.chown(home, "postgres")

    def run(*command: str) -> None:
        done = subprocess.run([*as_user, *command], capture_output=True, text=True, timeout=120, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr

    run(str(binaries / "initdb"), "-D", str(home / "data"), "-U", "nas", "--auth=trust")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home}"
    run(str(binaries / "pg_ctl"), "-D", str(home / "data"), "-l", str(home / "log"), "-w", "-o", options, "start")
    try:
        yield f"postgresql+psycopg://nas:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        run(str(binaries / "pg_ctl"), "-D", str(home / "data"), "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)
