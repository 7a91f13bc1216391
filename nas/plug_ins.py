"""Goes in: files of blocks that somebody named. Comes out: a line a file, said before it runs.

What a study names is loaded again only where the file is unchanged since, and was named on this machine before: a study
may come from anybody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import optuna

from nas import trust
from nas.demo import cache_folder
from nas.errors import InputError

DIGITS = 12  # of a hash, as a study's identity has them
Say = Callable[[str], object]


def announce(paths: Iterable[str | Path], say: Say) -> None:
    """Say which files are about to run, and remember that they were named here."""
    for path in paths:
        if Path(path).is_file():
            digest = _digest(path)
            say(line(path, digest))
            _remember(digest)


def line(path: str | Path, digest: str) -> str:
    """``plug-in: /home/me/mine.py, sha256 1a2b3c4d5e6f...``."""
    return f"plug-in: {Path(path).resolve()}, sha256 {digest[:DIGITS]}..."


def faults_of(study: optuna.Study) -> list[str]:
    """Why the files that a study names are not run; nothing for a file that is not there, which is told elsewhere."""
    recorded = study.user_attrs["identity"].get("modules") or []
    faults = []
    for number, path in enumerate(study.user_attrs["recipe"]["modules"]):
        if not Path(path).is_file():
            continue
        then = str(recorded[number]) if number < len(recorded) else "none"
        if (now := _digest(path))[:DIGITS] != then:
            faults.append(
                f"plug-in {path} is not the one that the study was made with: then sha256 {then}, "
                f"now {now[:DIGITS]}; put that file back"
            )
        elif not trust.given() and now not in _remembered():
            faults.append(
                f"plug-in {path}, sha256 {now[:DIGITS]}..., is named by the study, and nobody has named it on this "
                "machine by --modules: it would run with your rights. Read it; if you know it, --trust loads it"
            )
    return faults


def again(study: optuna.Study, say: Say) -> None:
    """:func:`announce` for the files that a study names.

    Raises:
        InputError: One of them is not to be run.
    """
    if faults := faults_of(study):
        raise InputError("\n".join(faults))
    announce(study.user_attrs["recipe"]["modules"], say)


def _digest(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _memory() -> Path:
    return cache_folder() / "plug-ins.txt"


def _remembered() -> set[str]:
    return set(_memory().read_text(encoding="utf-8").split()) if _memory().is_file() else set()


def _remember(digest: str) -> None:
    if digest not in _remembered():
        _memory().parent.mkdir(parents=True, exist_ok=True)
        with _memory().open("a", encoding="utf-8") as file:
            file.write(f"{digest}\n")
