"""Goes in: a dataset. Comes out: nothing, or an error where a label cache that lies beside it would run code.

Ultralytics keeps what it has read of the labels in `*.cache` beside their folder, and reads it back as a pickle.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ultralytics.data.utils import img2label_paths

from nas import data, known, trust
from nas.dataset import DataError

MAGIC = b"\x93NUMPY"


class Stranger(pickle.UnpicklingError):
    """A name in a cache that is none of numpy's arrays."""


class Reader(pickle.Unpickler):
    """Reads arrays and plain values."""

    def find_class(self, module: str, name: str) -> Any:
        """Numpy's; the name of anything else as an error."""
        found = known.data(f"{module}.{name}") if module.startswith("numpy") else None
        if found is None:
            raise Stranger(f"{module}.{name}")
        return found


def check(path: str | Path, task: str) -> None:
    """Hold the label caches of a dataset against what Ultralytics writes.

    Raises:
        DataError: One of them holds something else.
    """
    for file in () if trust.given() else caches(path, task):
        if (name := stranger(file)) is not None:
            raise DataError(
                f"dataset {path}: {file} names {name}, which would run as it is read; no label cache needs it. "
                f"Delete it, and it is made anew; {trust.HINT}"
            )


def caches(path: str | Path, task: str) -> Iterator[Path]:
    """The caches that there are, as Ultralytics looks for them."""
    if task == "classify":
        yield from (file for file in Path(path).glob("*.cache") if file.is_file())
        return
    info, places = data.resolve(path, task), set[Path]()
    for split in ("train", "val", "test"):
        if info.get(split):
            files = data.images_of(info[split], path, split)
            places |= {Path(label).parent for label in img2label_paths(files)}
    yield from sorted(file for place in places if (file := place.with_suffix(".cache")).is_file())


def stranger(file: Path) -> str | None:
    """What a cache names beside arrays; None where it names nothing, or is damaged: Ultralytics stops there as well."""
    with file.open("rb") as stream:
        if stream.read(len(MAGIC)) == MAGIC:  # an array's file: version, length of its head, head, and then a pickle
            size = 2 if stream.read(2)[:1] == b"\1" else 4
            stream.seek(int.from_bytes(stream.read(size), "little"), 1)
        else:  # numpy takes it for a pickle
            stream.seek(0)
        try:
            Reader(stream).load()
        except Stranger as e:
            return str(e)
        except Exception:
            return None
    return None
