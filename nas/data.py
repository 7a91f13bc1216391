"""Goes in: a dataset and a task. Comes out: classes, splits and content hash, checked before anything is spent."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from ultralytics.data.utils import IMG_FORMATS, check_det_dataset, img2label_paths

from nas.dataset import SPLITS, DataError, Dataset
from nas.folders import check_folders
from nas.labels import BadLabels, Layout, WrongLabels, classes, corners

THINGS = {"detect": "box", "segment": "polygon", "pose": "row of keypoints", "obb": "oriented box"}  # in a label file


def check(path: str | Path, task: str = "detect") -> Dataset:
    """Read a dataset's YAML and every label of its train and val splits; for classify, its folders.

    Raises:
        DataError: Missing file, no YAML, missing split, no image, no label that fits the task, or a class that the
            YAML does not name.
    """
    if task == "classify":
        return check_folders(path)
    info = resolve(path, task)
    names = {int(k): str(v) for k, v in info["names"].items()}
    layout = Layout(task, _keypoints(info, path) if task == "pose" or info.get("kpt_shape") else None)
    digest = hashlib.sha256(repr(sorted(names.items())).encode())
    if task == "pose":
        digest.update(repr([info.get(k) for k in ("kpt_shape", "flip_idx", "kpt_oks_sigmas")]).encode())
    images, labels, warnings = {}, {}, []
    for split in SPLITS:
        files = images_of(info[split], path, split)
        images[split] = len(files)
        labels[split], bad, odd = _labels(files, names, path, split, digest, layout)
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
    channels, content = int(info.get("channels", 3)), digest.hexdigest()[:12]
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
    file = Path(path)
    if file.is_dir():
        raise DataError(
            f"dataset {path}: a model for {task} expects the dataset's YAML file, got a folder "
            "(which is what a model for classify takes, such as --weights yolo11n-cls.pt)"
        )
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


def images_of(source: str | list[str], path: str | Path, split: str) -> list[str]:
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
    files: list[str], names: dict[int, str], path: str | Path, split: str, digest: Any, layout: Layout
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
            count += len(found)
            odd += bool(found) and layout.task == "obb" and corners(text.decode("utf-8-sig")) != {4}
    return count, bad, odd


def _read(image: str, label: str) -> tuple[int, bytes]:
    size = Path(image).stat().st_size if Path(image).is_file() else -1
    return size, Path(label).read_bytes() if Path(label).is_file() else b""
