"""A PostgreSQL of the tests' own: found, or installed where this user may, and started on a free port."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Postgres:
    """A server of the tests' own.

    Args:
        binaries: Folder of its programs.
        home: Folder of its data.
        port: Of this machine.
    """

    binaries: Path
    home: Path
    port: int

    @property
    def url(self) -> str:
        """For Optuna, with a password in it."""
        return f"postgresql+psycopg://nas:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def create(self, name: str) -> str:
        """A new, empty database in it; its URL."""
        import psycopg

        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())  # quoted: some names are words of SQL
        return self.url.removesuffix("/postgres") + f"/{name}"

    def run(self, program: str, *args: str) -> None:
        """One of its programs, as a user that may: it does not run as root."""
        as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*as_user, str(self.binaries / program), *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.home}"
        options += " -c max_connections=300 -c fsync=off"
        self.run("pg_ctl", "-D", str(self.home / "data"), "-l", str(self.home / "log"), "-w", "-o", options, "start")

    def stop(self, how: str = "immediate") -> None:
        """Stop it: ``fast`` tells its clients, ``immediate`` is a crash."""
        self.run("pg_ctl", "-D", str(self.home / "data"), "-m", how, "stop")


@contextmanager
def running() -> Iterator[Postgres]:
    """A server while it is needed."""
    binaries = find_binaries()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    home = Path(tempfile.mkdtemp(prefix="nas-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(home, "postgres")
    made = Postgres(binaries, home, port)
    made.run("initdb", "-D", str(home / "data"), "-U", "nas", "--auth=trust")
    made.start()
    try:
        yield made
    finally:
        with contextlib.suppress(AssertionError):  # a test may have stopped it
            made.stop()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def server() -> Iterator[str]:
    """A running server's URL."""
    with running() as made:
        yield made.url
