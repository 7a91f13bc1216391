"""Goes in: a dataset's YAML. Comes out: its classes, splits and content hash, checked before anything is spent."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ultralytics.data.utils import IMG_FORMATS, check_det_dataset, img2label_paths

from nas.errors import InputError

SPLITS = ("train", "val")


class DataError(InputError):
    """A dataset that cannot be trained on: says the file, what is wrong, and what is expected."""


@dataclass(frozen=True)
class Dataset:
    """A checked detection dataset in Ultralytics' format.

    Args:
        path: Its YAML.
        names: Class index -> name.
        images: Number of images of each split.
        boxes: Number of boxes of each split.
        channels: Channels of its images.
        digest: Twelve hexadecimal digits of class names, image names and sizes, and label contents.
        warnings: What Ultralytics will drop, in words.
    """

    path: Path
    names: dict[int, str]
    images: dict[str, int]
    boxes: dict[str, int]
    channels: int
    digest: str
    warnings: tuple[str, ...] = field(default=())


def check(path: str | Path) -> Dataset:
    """Read a dataset's YAML and every label of its train and val splits.

    Raises:
        DataError: Missing file, no YAML, missing split, no image, no label, or a class that the YAML does not name.
    """
    info = _resolve(path)
    names = {int(k): str(v) for k, v in info["names"].items()}
    digest = hashlib.sha256(repr(sorted(names.items())).encode())
    images, boxes, warnings = {}, {}, []
    for split in SPLITS:
        files = _images(info[split], path, split)
        images[split] = len(files)
        boxes[split], bad = _labels(files, names, path, split, digest)
        if bad:
            warnings.append(
                f"{split}: {len(bad)} of {len(files)} images have unusable labels and are ignored by Ultralytics "
                f"(first: {bad[0]})"
            )
        if not boxes[split]:
            raise DataError(f"dataset {path}: {split} has {len(files)} images and not one box in their label files")
    return Dataset(
        Path(info["yaml_file"]),
        names,
        images,
        boxes,
        int(info.get("channels", 3)),
        digest.hexdigest()[:12],
        tuple(warnings),
    )


def _resolve(path: str | Path) -> dict[str, Any]:
    """Ultralytics' own reading of the YAML, with its errors made into one line."""
    file = Path(path)
    if file.is_dir():
        raise DataError(f"dataset {path}: expected the dataset's YAML file, got a folder")
    if file.is_file():
        try:
            raw = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as e:
            raise DataError(f"dataset {path}: not a YAML file: {str(e).splitlines()[0]}") from e
        if not isinstance(raw, dict):
            raise DataError(f"dataset {path}: expected keys train, val and names, got {type(raw).__name__}")
        nc, names = raw.get("nc"), raw.get("names")
        if nc is not None and isinstance(names, list | dict) and nc != len(names):
            raise DataError(f"dataset {path}: nc says {nc} classes, names lists {len(names)}; they must agree")
    try:
        return check_det_dataset(str(path))
    except Exception as e:
        lines = [line.strip() for line in str(e).splitlines() if line.strip()]
        reason = " ".join(lines) or type(e).__name__
        raise DataError(f"dataset {path}: {reason}") from e


def _images(source: str | list[str], path: str | Path, split: str) -> list[str]:
    """The image files of a split, as Ultralytics collects them: folders, and text files of paths."""
    files: list[str] = []
    for item in source if isinstance(source, list) else [source]:
        place = Path(item)
        if place.is_dir():
            files += [str(f) for f in place.rglob("*.*")]
        else:
            lines = place.read_text(encoding="utf-8-sig").splitlines()
            files += [str(place.parent / x[2:]) if x.startswith("./") else x for x in lines if x.strip()]
    kept = sorted(f for f in files if f.rpartition(".")[-1].lower() in IMG_FORMATS)
    if not kept:
        raise DataError(f"dataset {path}: {split} ({source}) holds no image")
    return kept


def _labels(
    files: list[str], names: dict[int, str], path: str | Path, split: str, digest: Any
) -> tuple[int, list[str]]:
    """Read every label file of a split; count boxes, collect unusable files, feed the digest."""
    labels = img2label_paths(files)
    count, bad = 0, []
    with ThreadPoolExecutor(8) as pool:
        for image, label, (size, text) in zip(files, labels, pool.map(_read, files, labels), strict=True):
            digest.update(f"{split}/{Path(image).name}:{size}\n".encode() + text)
            try:
                classes = list(_classes(text.decode("utf-8")))
            except ValueError:
                bad.append(label)
                continue
            wrong = [c for c in classes if c not in names]
            if wrong:
                raise DataError(
                    f"dataset {path}: {label} has class {wrong[0]}, but names lists {len(names)} classes "
                    f"(0 to {len(names) - 1})"
                )
            count += len(classes)
    return count, bad


def _read(image: str, label: str) -> tuple[int, bytes]:
    size = Path(image).stat().st_size if Path(image).is_file() else -1
    return size, Path(label).read_bytes() if Path(label).is_file() else b""


def _classes(text: str) -> Iterable[int]:
    """Class of every row ``class x y w h`` (or a polygon); ValueError where a row is none."""
    for line in text.splitlines():
        if not line.strip():
            continue
        values = [float(v) for v in line.split()]
        if len(values) < 5 or not all(math.isfinite(v) for v in values):
            raise ValueError(line)
        if min(values[1:]) < -0.01 or max(values[1:]) > 1.01:
            raise ValueError(line)
        if values[0] != int(values[0]):
            raise ValueError(line)
        yield int(values[0])
