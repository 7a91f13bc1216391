"""Goes in: a checked dataset. Comes out: it in parts that share no image: to train on, to search on, to report on.

Where the dataset has a test split with labels, the search is scored on val and the report on test. Else a part of
train is kept from training, the search is scored on that, and val is reported. Of the same images in two parts, byte
for byte, those stay that are needed most: in what is reported, then in what is searched on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
from ultralytics.data.utils import img2label_paths

from nas import data
from nas.dataset import DataError, Dataset
from nas.demo import cache_folder
from nas.split_files import Parts, class_of, write_folders, write_yamls

HELD_OUT = 0.2  # of train, where there is no test split
SEED = 0  # of what is held out: the same part for every study on this data
ROLES = (("train", "train"), ("search", "val"))  # of a search on the dataset as it is, and the splits they are
VERSION = 1  # of all that decides the parts
ENDS = 4096  # bytes at either end of a file that tell most files of one size apart
Classes = Callable[[Sequence[str]], list[set[str]]]  # image files -> the classes in each


@dataclass(frozen=True)
class Divided:
    """A dataset in two views that train on the same images.

    Args:
        search: Its val split is what the search is scored on.
        report: Its val split is what is reported, and what the search never sees.
        notes: What was left out and why, in words.
        made: The folder, where it was written just now.
    """

    search: Dataset
    report: Dataset
    notes: tuple[str, ...]
    made: Path | None = None


@dataclass(frozen=True)
class Plan:
    """The parts of a dataset before anything is written.

    Args:
        home: The folder that they belong to, in the user's cache.
        found: The images of each split.
        decided: The parts, what they are in words, and notes; None where they were written earlier.
    """

    dataset: Dataset
    task: str
    home: Path
    found: Parts
    decided: tuple[Parts, dict[str, str], list[str]] | None


def divide(dataset: Dataset, task: str = "detect") -> Divided:
    """Find or make the parts of a checked dataset; links to its images lie in the user's cache.

    Raises:
        DataError: Too few images to hold some out, or a test split whose labels are wrong.
    """
    return write(plan(dataset, task))


def plan(dataset: Dataset, task: str = "detect") -> Plan:
    """Decide the parts, and write nothing.

    Raises:
        DataError: Too few images to hold some out.
    """
    found = _files(dataset, task)
    home = cache_folder() / "splits" / _key(dataset, found)
    if (home / "parts.json").is_file():
        return Plan(dataset, task, home, found, None)
    return Plan(
        dataset, task, home, found, apart(found, lambda files: _classes(files, task, dataset.path), str(dataset.path))
    )


def write(planned: Plan) -> Divided:
    """Write what was planned, and read it back; where it cannot be used, nothing stays.

    Raises:
        DataError: A part, for instance a test split, whose labels are wrong.
    """
    dataset, home = planned.dataset, planned.home
    if planned.decided is not None:
        _make(planned, planned.decided)
    told = json.loads((home / "parts.json").read_text(encoding="utf-8"))
    views = []
    try:
        for view in ("search", "report"):
            made = home / (view if planned.task == "classify" else f"{view}.yaml")
            path = Path(told[view]["path"]) if told[view]["path"] else made
            read = dataset if path == dataset.path else data.check(path, planned.task)
            of = told[view]["split"]
            views.append(replace(read, title=dataset.title, split=of, origin=dataset.path, warnings=()))
    except DataError:
        if planned.decided is not None:
            shutil.rmtree(home, ignore_errors=True)
        raise
    return Divided(views[0], views[1], tuple(told["notes"]), home if planned.decided is not None else None)


def _files(dataset: Dataset, task: str) -> Parts:
    """The images of train, val and, where there is one that can be scored, test."""
    if task == "classify":
        tests = dataset.path / "test"
        folders = {"train": dataset.path / "train", "val": _val_folder(dataset.path)}
        folders |= {"test": tests} if tests.is_dir() and tests != folders["val"] else {}
        return {name: data.images_of(str(folder), dataset.path, name) for name, folder in folders.items()}
    info = data.resolve(dataset.path, task)
    found: Parts = {split: data.images_of(info[split], dataset.path, split) for split in ("train", "val")}
    if info.get("test"):
        with contextlib.suppress(DataError, OSError):
            labelled = data.images_of(info["test"], dataset.path, "test")
            if any(_text(label).strip() for label in img2label_paths(labelled)):
                found["test"] = labelled
    return found


def _val_folder(root: Path) -> Path:
    from nas.folders import VAL

    return next(root / name for name in VAL if (root / name).is_dir())


def _key(dataset: Dataset, found: Parts) -> str:
    """Hash of all that decides the parts."""
    digest = hashlib.sha256(f"{VERSION} {dataset.path.resolve()} {dataset.digest}".encode())
    for split, files in found.items():
        for file in files:
            digest.update(f"{split}/{file}:{os.stat(file).st_size}\n".encode())
    return digest.hexdigest()[:16]


def _make(planned: Plan, decided: tuple[Parts, dict[str, str], list[str]]) -> None:
    """Write the parts, whole or not at all."""
    home, dataset, found = planned.home, planned.dataset, planned.found
    parts, words, notes = decided
    part = home.with_name(f".{home.name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    told: dict[str, Any] = {"notes": notes}
    whole = words["search"] == "val" and all(set(parts[a]) == set(found[b]) for a, b in ROLES)
    put = write_folders if planned.task == "classify" else write_yamls
    put(part, dataset, parts, found)
    for view in ("search", "report"):
        told[view] = {"split": words[view], "path": str(dataset.path) if view == "search" and whole else None}
    part.mkdir(parents=True, exist_ok=True)
    (part / "parts.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    try:
        part.replace(home)
    except OSError:  # another process was first
        shutil.rmtree(part, ignore_errors=True)


def apart(found: Parts, classes: Classes, name: str) -> tuple[Parts, dict[str, str], list[str]]:
    """The parts, what the searched and the reported one are in words, and what was left out.

    Args:
        found: Images of train, val and perhaps test.
        classes: Image files -> for each the classes in it.
        name: Of the dataset, for errors.

    Raises:
        DataError: Too few images to hold some out.
    """
    same, notes = twins([f for files in found.values() for f in files]), list[str]()
    if "test" in found:
        report = found["test"]
        search = _without(found["val"], report, same, "val", "test", notes)
        train = _without(found["train"], [*search, *report], same, "train", "val or test", notes)
        if train and search:
            return _parts(train, search, report), {"search": "val", "report": "test"}, notes
        notes.clear()
    report, words = found["val"], {"search": f"{HELD_OUT:.0%} of train", "report": "val"}
    train = _without(found["train"], report, same, "train", "val", notes)
    if len(train) < len(found["train"]) / 2:  # val is train, as in some datasets that only check an installation
        notes = [
            f"most images of train are in val too: {HELD_OUT:.0%} of train are reported on instead of val, and "
            f"{HELD_OUT:.0%} searched on"
        ]
        train, report = hold_out(found["train"], classes, same, HELD_OUT, name)
        words["report"] = f"another {HELD_OUT:.0%} of train"
        train, search = hold_out(train, classes, same, HELD_OUT / (1 - HELD_OUT), name)
    else:
        train, search = hold_out(train, classes, same, HELD_OUT, name)
    return _parts(train, search, report), words, notes


def _parts(train: list[str], search: list[str], report: list[str]) -> Parts:
    return {"train": train, "search": search, "report": report}


def _without(
    files: list[str], kept: Iterable[str], same: Mapping[str, str], of: str, other: str, notes: list[str]
) -> list[str]:
    """Files whose bytes are in no other part."""
    there = {same.get(f, f) for f in kept}
    left = [f for f in files if same.get(f, f) not in there]
    if gone := len(files) - len(left):
        notes.append(f"{gone} of {len(files)} images of {of} are in {other} too, byte for byte, and left out of {of}")
    return left


def hold_out(
    files: list[str], classes: Classes, same: Mapping[str, str], share: float, name: str
) -> tuple[list[str], list[str]]:
    """What stays and what is held out, each class spread over both as evenly as can be, the rarest first.

    By iterative stratification (Sechidis et al. 2011). Copies of an image go where the first of them goes.

    Raises:
        DataError: Fewer than two images.
    """
    firsts = list({same.get(f, f): f for f in reversed(files)}.values())[::-1]
    if len(firsts) < 2:
        raise DataError(
            f"dataset {name}: {len(firsts)} images to train on and no test split; a part of train is searched on, "
            "which takes 2"
        )
    sets = classes(firsts)
    columns = {c: i for i, c in enumerate(sorted(set().union(*sets)))}
    table = np.zeros((len(firsts), max(len(columns), 1)), int)
    for row, found in zip(table, sets, strict=True):
        row[[columns[c] for c in found]] = 1
    size = min(max(1, round(share * len(firsts))), len(firsts) - 1)
    split = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=size, random_state=SEED)
    _, held = next(split.split(table, table))
    out = {same.get(firsts[i], firsts[i]) for i in held}
    if not any(sets[i] for i in held):  # no label among them: nothing could be scored
        labelled = next((f for f, found in zip(firsts, sets, strict=True) if found), firsts[0])
        out.add(same.get(labelled, labelled))
    return [f for f in files if same.get(f, f) not in out], [f for f in files if same.get(f, f) in out]


def twins(files: Sequence[str]) -> dict[str, str]:
    """Files that have the same bytes as another one -> what they have in common; the others are left out."""
    sizes = _groups((f, os.stat(f).st_size) for f in files)
    with ThreadPoolExecutor(8) as pool:
        for read in (_ends, _whole):
            few = [f for group in sizes for f in group]
            sizes = _groups(zip(few, pool.map(read, few), strict=True))
    return {f: min(group) for group in sizes for f in group}


def _groups(keyed: Iterable[tuple[str, Any]]) -> list[list[str]]:
    """Different files with the same key, where there are two."""
    found: dict[Any, dict[str, None]] = {}
    for file, key in keyed:
        found.setdefault(key, {})[file] = None
    return [list(group) for group in found.values() if len(group) > 1]


def _ends(file: str) -> tuple[int, bytes]:
    with open(file, "rb") as f:
        size, head = os.fstat(f.fileno()).st_size, f.read(ENDS)
        f.seek(max(size - ENDS, 0))
        return size, hashlib.sha256(head + f.read(ENDS)).digest()


def _whole(file: str) -> tuple[int, bytes]:
    with open(file, "rb") as f:
        return os.fstat(f.fileno()).st_size, hashlib.file_digest(f, "sha256").digest()


def _classes(files: Sequence[str], task: str, root: Path) -> list[set[str]]:
    """The classes in each image: the folder's, or the first word of each row of labels."""
    if task == "classify":
        return [{class_of(Path(f), root)} for f in files]
    with ThreadPoolExecutor(8) as pool:
        texts = pool.map(_text, img2label_paths(list(files)))
        return [{line.split()[0] for line in text.splitlines() if line.strip()} for text in texts]


def _text(label: str) -> str:
    try:
        return Path(label).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return ""
