"""Goes in: the parts of a dataset. Comes out: them as datasets of Ultralytics', of links to the images and labels."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from ultralytics.data.utils import check_det_dataset, img2label_paths

from nas.dataset import Dataset
from search_spaces import yaml_file

Parts = dict[str, list[str]]  # role -> image files: train, search, report


def write_yamls(home: Path, dataset: Dataset, parts: Parts, found: Parts) -> None:
    """Datasets of boxes: whole splits where they lie, others as links, the YAML's other keys as they are."""
    raw = yaml_file.read(dataset.path)
    kept = {k: v for k, v in raw.items() if k not in ("path", "train", "val", "test", "minival", "download")}
    info, places = check_det_dataset(str(dataset.path)), dict[str, Any]()
    for role, files in parts.items():
        if whole := next((name for name, all_of_it in found.items() if set(all_of_it) == set(files)), None):
            places[role] = info[whole]
            continue
        places[role] = f"images/{role}"
        for file, label, name in zip(files, img2label_paths(files), names(files), strict=True):
            link(Path(file), home / "images" / role / name)
            link(Path(label), (home / "labels" / role / name).with_suffix(".txt"))
    home.mkdir(parents=True, exist_ok=True)
    for view in ("search", "report"):
        told = yaml.safe_dump({"train": places["train"], "val": places[view], **kept}, sort_keys=False)
        (home / f"{view}.yaml").write_text(told, encoding="utf-8")


def write_folders(home: Path, dataset: Dataset, parts: Parts, found: Parts) -> None:
    """Datasets for classify as links: <split>/<class>/<image>. A class with no image here keeps its folder."""
    classes = [folder.name for folder in (dataset.path / "train").iterdir() if folder.is_dir()]
    for view in ("search", "report"):
        for split, role in (("train", "train"), ("val", view)):
            by_class: dict[str, list[str]] = {name: [] for name in classes}
            for file in parts[role]:
                by_class.setdefault(class_of(Path(file), dataset.path), []).append(file)
            for label, files in by_class.items():
                (home / view / split / label).mkdir(parents=True, exist_ok=True)
                for file, name in zip(files, names(files), strict=True):
                    link(Path(file), home / view / split / label / name)


def class_of(file: Path, root: Path) -> str:
    """The folder of a split that an image lies in, however deep."""
    return file.relative_to(root).parts[1]


def names(files: Sequence[str]) -> list[str]:
    """A name for each file, its own where no other has it (whatever the ending: one label would serve both)."""
    taken: set[str] = set()
    found = []
    for number, file in enumerate(files):
        name = Path(file).name
        if Path(name).stem in taken:
            name = f"{number}-{name}"
        taken.add(Path(name).stem)
        found.append(name)
    return found


def link(source: Path, target: Path) -> None:
    """Let ``target`` be ``source``: by a link, or a copy where the system has none; a file that is missing stays so."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(source.absolute())
    except OSError:
        if source.is_file():
            shutil.copy2(source, target)
