"""Goes in: a command line, an error, a storage's URL. Comes out: the same without the password.

Everybody on a machine sees the command lines of all processes (`ps`). So a command that was given a URL with a password
begins again with the URL in its environment, which nobody but its user can read.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType

VARIABLE = "YOLO_ATTENTION_NAS_STORAGE"  # a storage's URL; in place of --storage as well
IN_URL = re.compile(r"([a-z][\w+.-]*://[^\s:/@]*):(?!\*\*\*@)[^\s@]+@", re.IGNORECASE)
IN_QUERY = re.compile(r"([?&](?:password|passwd|pwd)=)[^&\s'\"]+", re.IGNORECASE)
DATABASE = re.compile(r"(?:--storage=)?((?!https?:|s3:|gs:|ul:)[a-z][\w+.-]*://.*)", re.IGNORECASE | re.DOTALL)


def hide(text: str) -> str:
    """A text with ``***`` in place of every password in a URL."""
    return IN_QUERY.sub(r"\1***", IN_URL.sub(r"\1:***@", text))


def full(url: str) -> str:
    """A storage's URL with its password again, where it is the one that the environment has."""
    whole = os.environ.get(VARIABLE, "")
    return whole if whole and url == hide(whole) else url


def guard() -> None:
    """At the start of a command: take the password out of its line, and out of what Python says of an error."""
    if sys.argv[1:] != sys.orig_argv[len(sys.orig_argv) - len(sys.argv) + 1 :]:
        return  # called by another program, whose line is its own
    sys.excepthook = tell
    line, url = without_password(sys.orig_argv)
    if url is not None and os.name != "nt":  # Windows starts another process, and the shell does not wait for it
        os.environ[VARIABLE] = url
        os.execv(sys.executable, line)


def without_password(line: Sequence[str]) -> tuple[list[str], str | None]:
    """A command line without the password of its storage, and the storage's whole URL; None where there is none."""
    urls = [found[1] for word in line if (found := DATABASE.fullmatch(word)) and hide(found[1]) != found[1]]
    if not urls:
        return list(line), None
    return [word.replace(urls[-1], hide(urls[-1])) for word in line], urls[-1]


def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error as Python does."""
    print(hide("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)
