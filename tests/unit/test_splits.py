"""No image stands in two of the parts that are trained on, searched on and reported on."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import make_dataset
from task_data import make_data

from nas import data, split_files, splits
from nas.dataset import DataError, Dataset
from nas.folders import check_folders


def without_test(file: Path) -> Path:
    """Take the test split out of a dataset's YAML."""
    file.write_text("".join(line for line in file.read_text().splitlines(True) if not line.startswith("test")))
    return file


def contents(dataset: Dataset, split: str, task: str = "detect") -> list[str]:
    """Hashes of a split's images."""
    if task == "classify":
        files = [str(f) for f in (dataset.path / split).rglob("*.png")]
    else:
        files = data.images_of(data.resolve(dataset.path, task)[split], dataset.path, split)
    return [hashlib.sha256(Path(f).read_bytes()).hexdigest() for f in files]


def parts(found: splits.Divided, task: str = "detect") -> dict[str, list[str]]:
    """What is trained on, searched on and reported on; both views train on the same."""
    train = contents(found.search, "train", task)
    assert sorted(train) == sorted(contents(found.report, "train", task))
    return {
        "train": train,
        "search": contents(found.search, "val", task),
        "report": contents(found.report, "val", task),
    }


def disjoint(found: dict[str, list[str]]) -> bool:
    """Whether no content is in two parts."""
    a, b, c = (set(x) for x in found.values())
    return not (a & b or a & c or b & c)


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb", "classify"])
@pytest.mark.parametrize("has_test", [True, False])
def test_every_task_in_three_parts(tmp_path: Path, task: str, has_test: bool) -> None:
    where = make_data(tmp_path / "x", task, 20, 6)
    if not has_test and task == "classify":
        shutil.rmtree(where / "test")
    elif not has_test:
        without_test(where)
    dataset = data.check(where, task)
    found = splits.divide(dataset, task)
    now = parts(found, task)
    assert disjoint(now) and found.notes == ()
    assert (found.search.title, found.report.title) == (dataset.title, dataset.title)
    assert found.search.named == found.report.named == dataset.path == dataset.named
    if has_test:
        assert (found.search.split, found.report.split) == ("val", "test")
        assert found.search.digest == dataset.digest and found.search.path == dataset.path
        assert {k: len(v) for k, v in now.items()} == {"train": 20, "search": 6, "report": 6}
    else:
        assert (found.search.split, found.report.split) == ("20% of train", "val")
        assert {k: len(v) for k, v in now.items()} == {"train": 16, "search": 4, "report": 6}
        before = contents(check_folders(where) if task == "classify" else dataset, "train", task)
        assert sorted(now["train"] + now["search"]) == sorted(before)


def test_it_is_the_same_part_every_time_and_for_everyone(tmp_path: Path) -> None:
    one, two = (without_test(make_dataset(tmp_path / name / "x", 30, 4)) for name in ("a", "b"))
    first, second = (parts(splits.divide(data.check(f))) for f in (one, two))
    assert first == second
    assert parts(splits.divide(data.check(one))) == first


def test_copies_are_left_where_they_count_most(tmp_path: Path) -> None:
    file = make_dataset(tmp_path / "x", 10, 4)
    root = file.parent

    def copy(a: str, b: str) -> None:
        shutil.copy(root / "images" / f"{a}.png", root / "images" / f"{b}.png")
        shutil.copy(root / "labels" / f"{a}.txt", root / "labels" / f"{b}.txt")

    copy("test/0", "val/copy")
    copy("test/0", "train/copy")
    copy("val/1", "train/other")
    found = splits.divide(data.check(file))
    now = parts(found)
    assert disjoint(now)
    assert {k: len(v) for k, v in now.items()} == {"train": 10, "search": 4, "report": 4}
    assert found.notes == (
        "1 of 5 images of val are in test too, byte for byte, and left out of val",
        "2 of 12 images of train are in val or test too, byte for byte, and left out of train",
    )


def test_copies_within_train_are_held_out_together(tmp_path: Path) -> None:
    file = without_test(make_dataset(tmp_path / "x", 20, 4))
    for i in range(20):
        for kind, end in (("images", "png"), ("labels", "txt")):
            shutil.copy(file.parent / kind / "train" / f"{i}.{end}", file.parent / kind / "train" / f"copy{i}.{end}")
    now = parts(splits.divide(data.check(file)))
    assert disjoint(now) and len(now["search"]) == 8 and len(now["train"]) == 32


def test_val_that_is_train_is_not_reported(tmp_path: Path) -> None:
    file = make_dataset(tmp_path / "x", 20, 4)
    file.write_text("train: images/train\nval: images/train\nnames: {0: red, 1: green}\n")
    found = splits.divide(data.check(file))
    now = parts(found)
    assert disjoint(now) and {k: len(v) for k, v in now.items()} == {"train": 12, "search": 4, "report": 4}
    assert found.report.split == "another 20% of train" and "most images of train are in val too" in found.notes[0]


def test_a_test_split_without_labels_is_none(tmp_path: Path) -> None:
    file = make_dataset(tmp_path / "x", 10, 4)
    shutil.rmtree(file.parent / "labels" / "test")
    assert splits.divide(data.check(file)).report.split == "val"


@pytest.mark.parametrize("missing", ["images/nowhere", "nowhere.txt"])
def test_a_test_split_that_is_not_there_is_none(tmp_path: Path, missing: str) -> None:
    file = make_dataset(tmp_path / "x", 10, 4)
    file.write_text(file.read_text().replace("images/test", missing))
    assert splits.divide(data.check(file)).report.split == "val"


def test_one_image_cannot_be_parted(tmp_path: Path) -> None:
    file = without_test(make_dataset(tmp_path / "x", 1, 2))
    with pytest.raises(DataError, match="1 images to train on and no test split"):
        splits.divide(data.check(file))


def uneven(rng: np.random.Generator, count: int) -> Callable[[object], list[set[str]]]:
    """Classes of images: one in nearly all, one in a tenth, one in two images only."""
    rare = set(rng.choice(count, 2, replace=False).tolist())
    sets = [
        {name for name, there in (("a", rng.random() < 0.9), ("b", rng.random() < 0.1), ("c", i in rare)) if there}
        for i in range(count)
    ]
    return lambda files: [sets[int(f)] for f in files]  # type: ignore[attr-defined]


def test_classes_are_spread_evenly() -> None:
    rng = np.random.default_rng(3)
    classes, files = uneven(rng, 500), [str(i) for i in range(500)]
    stay, held = splits.hold_out(files, classes, {}, 0.2, "x")
    assert len(held) == 100 and sorted(stay + held) == sorted(files)
    for name in ("a", "b"):
        share = sum(name in c for c in classes(held)) / sum(name in c for c in classes(files))
        assert abs(share - 0.2) < 0.02


def test_names_stay_apart_whatever_their_ending() -> None:
    assert split_files.names(["/a/x.png", "/b/x.png", "/b/x.jpg", "/b/y.jpg"]) == [
        "x.png",
        "1-x.png",
        "2-x.jpg",
        "y.jpg",
    ]
