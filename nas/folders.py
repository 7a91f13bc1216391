"""Goes in: a dataset for classification. Comes out: its classes, splits and content hash; a folder is a class."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ultralytics.data.utils import IMG_FORMATS, check_cls_dataset

from nas.dataset import SPLITS, DataError, Dataset
from nas.images import readable
from nas.quiet import quiet

LAYOUT = "expected a folder with train/ and val/, in each one folder of images a class"
VAL = ("val", "validation", "valid", "test")  # what Ultralytics validates on, the first that is there


def check_folders(path: str | Path) -> Dataset:
    """Read the folders of a dataset for classification; Ultralytics' own are downloaded by their name.

    Raises:
        DataError: No such folder, a missing split, fewer than two classes, or no image.
    """
    root = _root(path)
    _check_splits(root, path)
    with quiet():
        info = check_cls_dataset(root, split="val")
    names = {int(k): str(v) for k, v in info["names"].items()}
    digest = hashlib.sha256(repr(sorted(names.items())).encode())
    images, classes, warnings = {}, {}, list[str]()
    for split in SPLITS:
        found = _images(Path(info[split]))
        images[split] = sum(len(files) for files in found.values())
        classes[split] = {name for name, files in found.items() if files}
        if not images[split]:
            raise DataError(f"dataset {path}: {info[split]} holds no image in its class folders; {LAYOUT}")
        readable([str(file) for files in found.values() for file in files], path, split, warnings)
        for name, files in found.items():
            for file in files:
                digest.update(f"{split}/{name}/{file.name}:{file.stat().st_size}\n".encode())
    if len(classes["train"]) < 2:
        raise DataError(f"dataset {path}: one class has training images; telling classes apart takes two")
    if Path(info["val"]).name == "test":
        warnings.append("there is no val/: Ultralytics validates on test/")
    if unseen := sorted(classes["val"] - classes["train"]):
        warnings.append(f"no training image of {len(unseen)} classes that val has: {', '.join(unseen[:5])}")
    content = digest.hexdigest()[:12]
    return Dataset(root, root.name, names, images, dict(images), 3, content, None, tuple(warnings))


def _root(path: str | Path) -> Path:
    """The dataset's folder."""
    place = Path(path)
    if place.is_dir():
        return place.resolve()
    if place.is_file() and place.suffix.lower() in (".yaml", ".yml"):
        raise DataError(f"dataset {path}: the base classifies whole images; {LAYOUT}, got a YAML file")
    if not place.is_file() and (len(place.parts) > 1 or place.suffix) and "://" not in str(path):
        raise DataError(f"dataset {path}: no such folder; {LAYOUT}")
    try:
        with quiet():
            return Path(check_cls_dataset(path, split="val")["train"]).parent  # a name, an archive or an address
    except Exception as e:
        raise DataError(f"dataset {path}: {' '.join(str(e).split()) or type(e).__name__}; {LAYOUT}") from e


def _check_splits(root: Path, path: str | Path) -> None:
    """Ultralytics would split a folder without train/ by itself, and train without a word where val/ is missing."""
    there = sorted(d.name for d in root.iterdir() if d.is_dir())
    missing = [name for name, options in (("train", ("train",)), ("val", VAL)) if not {*options} & {*there}]
    if missing:
        raise DataError(
            f"dataset {path}: no {' and no '.join(missing)} in it; {LAYOUT}, got {', '.join(there[:8]) or 'no folder'}"
        )
    if not any(d.is_dir() for d in (root / "train").iterdir()):
        raise DataError(f"dataset {path}: no class folder in {root / 'train'}; {LAYOUT}")


def _images(split: Path) -> dict[str, list[Path]]:
    """Class folder -> its images, however deep."""
    return {
        folder.name: sorted(f for f in folder.rglob("*.*") if f.suffix[1:].lower() in IMG_FORMATS)
        for folder in sorted(split.iterdir())
        if folder.is_dir()
    }
