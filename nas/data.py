"""Goes in: a dataset and a task. Comes out: classes, splits and content hash, checked before anything is spent."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ultralytics.data.utils import IMG_FORMATS, check_det_dataset, img2label_paths

from nas import trust
from nas.dataset import SPLITS, DataError, Dataset
from nas.folders import check_folders
from nas.images import readable
from nas.labels import BadLabels, Layout, WrongLabels, classes, corners
from search_spaces import yaml_file

LONGEST_NAME = 200  # characters of a class
THINGS = {"detect": "box", "segment": "polygon", "pose": "row of keypoints", "obb": "oriented box"}  # in a label file


def check(path: str | Path, task: str = "detect") -> Dataset:
    """Read a dataset's YAML, every label and the head of every image of its train and val; for classify, its folders.

    Raises:
        DataError: Missing file, no YAML, missing split, no image that can be opened, no label that fits the task, or a
            class that the YAML does not name.
    """
    if task == "classify":
        return check_folders(path)
    info = resolve(path, task)
    names = {int(k): str(v) for k, v in info["names"].items()}
    layout = Layout(task, _keypoints(info, path) if task == "pose" or info.get("kpt_shape") else None)
    digest = hashlib.sha256(repr(sorted(names.items())).encode())
    if task == "pose":
        digest.update(repr([info.get(k) for k in ("kpt_shape", "flip_idx", "kpt_oks_sigmas")]).encode())
    images, labels, warnings = {}, {}, list[str]()
    for split in SPLITS:
        files = images_of(info[split], path, split)
        images[split] = len(files)
        broken = readable(files, path, split, warnings)
        labels[split], bad, odd = _labels(files, names, path, split, digest, layout, broken)
        if bad:
            warnings.append(
                f"{split}: {len(bad)} of {len(files)} images have unusable labels and are ignored by Ultralytics "
                f"(first: {bad[0]})"
            )
        if odd:
            warnings.append(f"{split}: {odd} label files have polygons of other than four corners; each becomes a box")
        if not labels[split]:
            why = f" that a model for {task} can use; first: {bad[0]}" if bad else ""
            raise DataError(
                f"dataset {path}: {split} has {len(files)} images and not one {THINGS[task]} in their label files{why}"
            )
    file = Path(info["yaml_file"])
    keypoints = layout.keypoints if task == "pose" else None
    channels, content = _channels(info, path), digest.hexdigest()[:12]
    title = file.resolve().parent.name
    return Dataset(file, title, names, images, labels, channels, content, keypoints, tuple(warnings))


def _keypoints(info: dict[str, Any], path: str | Path) -> tuple[int, int]:
    """The YAML's `kpt_shape`, and what must agree with it."""
    shape = info.get("kpt_shape")
    numbers = shape if isinstance(shape, list | tuple) and all(type(v) is int for v in shape) else ()
    if len(numbers) != 2 or numbers[0] < 1 or numbers[1] not in (2, 3):
        raise DataError(
            f"dataset {path}: a pose model needs kpt_shape, the number of keypoints and 2 or 3 values of each "
            f"(for instance kpt_shape: [17, 3]), got {shape!r}"
        )
    for key in ("flip_idx", "kpt_oks_sigmas"):
        if info.get(key) and len(info[key]) != numbers[0]:
            raise DataError(f"dataset {path}: {key} has {len(info[key])} values, kpt_shape says {numbers[0]} keypoints")
    return numbers[0], numbers[1]


def resolve(path: str | Path, task: str) -> dict[str, Any]:
    """Ultralytics' own reading of the YAML, with its errors made into one line."""
    raw: Mapping[str, Any] = {}
    if os.path.isdir(path):
        raise DataError(
            f"dataset {path}: a model for {task} expects the dataset's YAML file, got a folder "
            "(which is what a model for classify takes, such as --weights yolo11n-cls.pt)"
        )
    if os.path.isfile(path):
        raw = _read_yaml(path)
    try:
        return check_det_dataset(str(path), autodownload=not raw.get("download") or trust.given())
    except Exception as e:
        lines = [line.strip() for line in str(e).splitlines() if line.strip()]
        reason = " ".join(lines) or type(e).__name__
        if isinstance(e, FileNotFoundError) and raw.get("download") and not trust.given():
            source = " ".join(str(raw["download"]).split())[:100]
            reason += (
                f". Its `download: {source}` is not followed: it may run anything. Get the images by hand and put them "
                f"where the YAML says; {trust.HINT}"
            )
        raise DataError(f"dataset {path}: {reason}") from e


def _read_yaml(path: str | Path) -> Mapping[str, Any]:
    """The YAML of a user's own, its classes' names checked.

    Raises:
        DataError: It is no mapping, or its names are none.
    """
    try:
        raw = yaml_file.read(path)
    except yaml_file.Unreadable as e:
        raise DataError(f"dataset {path}: {e}") from e
    if not isinstance(raw, dict):
        raise DataError(f"dataset {path}: expected keys train, val and names, got {type(raw).__name__}")
    nc, names = raw.get("nc"), raw.get("names")
    if not isinstance(names, list | dict):
        return raw
    if nc is not None and nc != len(names):
        raise DataError(f"dataset {path}: nc says {nc} classes, names lists {len(names)}; they must agree")
    seen: dict[str, Any] = {}
    for key, name in names.items() if isinstance(names, dict) else enumerate(names):
        text = str(name)
        if isinstance(key, bool) or not str(key).isdecimal() or int(key) >= len(names):
            last = len(names) - 1
            raise DataError(
                f"dataset {path}: names has the key {str(key)[:80]!r}, expected the classes' numbers, 0 to {last}"
            )
        if isinstance(name, list | dict) or name is None or not text.strip():
            raise DataError(f"dataset {path}: class {key} is called {text[:80]!r}, expected a word")
        if len(text) > LONGEST_NAME or not text.isprintable():
            raise DataError(
                f"dataset {path}: the name of class {key} has {len(text):,} characters, expected up to {LONGEST_NAME} "
                f"that can be printed: {text[:80]!r}"
            )
        if text in seen:
            raise DataError(f"dataset {path}: classes {seen[text]} and {key} are both called {text!r}; rename one")
        seen[text] = key
    return raw


def _channels(info: Mapping[str, Any], path: str | Path) -> int:
    """Channels of the images."""
    found = info.get("channels", 3)
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= 1000:
        raise DataError(f"dataset {path}: channels is {found!r}, expected a whole number such as 3")
    return found


def images_of(source: str | list[str], path: str | Path, split: str) -> list[str]:
    """The image files of a split, as Ultralytics collects them: folders, and text files of paths."""
    files: list[str] = []
    for item in source if isinstance(source, list) else [source]:
        place = Path(item)
        if place.is_dir():
            files += [str(f) for f in place.rglob("*.*")]
            continue
        try:
            lines = place.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as e:
            why = "is no list of images in UTF-8" if isinstance(e, UnicodeDecodeError) else e.strerror or "no such file"
            raise DataError(f"dataset {path}: {split}: {place}: {why}") from e
        files += [str(place.parent / x[2:]) if x.startswith("./") else x for x in lines if x.strip()]
    kept = sorted(f for f in files if f.rpartition(".")[-1].lower() in IMG_FORMATS)
    if not kept:
        raise DataError(f"dataset {path}: {split} ({source}) holds no image")
    return kept


def _labels(
    files: list[str],
    names: dict[int, str],
    path: str | Path,
    split: str,
    digest: Any,
    layout: Layout,
    broken: Mapping[str, str],
) -> tuple[int, list[str], int]:
    """Read every label file of a split: number of labels, unusable files, files of odd polygons; feed the digest."""
    labels = img2label_paths(files)
    count, bad, odd = 0, [], 0
    with ThreadPoolExecutor(8) as pool:
        for image, label, (size, text) in zip(files, labels, pool.map(_read, files, labels), strict=True):
            digest.update(f"{split}/{Path(image).name}:{size}\n".encode() + text)
            try:
                found = classes(text.decode("utf-8-sig"), layout)
            except WrongLabels as e:
                raise DataError(f"dataset {path}: the base is a model for {layout.task}; {label} has {e}") from e
            except BadLabels as e:
                bad.append(f"{label}: {e}")
                continue
            except UnicodeDecodeError:
                bad.append(f"{label}: not text")
                continue
            wrong = [c for c in found if c not in names]
            if wrong:
                raise DataError(
                    f"dataset {path}: {label} has class {wrong[0]}, but names lists {len(names)} classes "
                    f"(0 to {len(names) - 1})"
                )
            count += len(found) if image not in broken else 0
            odd += bool(found) and layout.task == "obb" and corners(text.decode("utf-8-sig")) != {4}
    return count, bad, odd


def _read(image: str, label: str) -> tuple[int, bytes]:
    size = Path(image).stat().st_size if Path(image).is_file() else -1
    return size, Path(label).read_bytes() if Path(label).is_file() else b""
