"""A dataset is read whole before anything is spent: what it holds, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import make_dataset

from nas import data


def test_a_good_dataset_is_counted(tiny_data: Path) -> None:
    found = data.check(tiny_data)
    assert found.names == {0: "red", 1: "green"}
    assert found.images == {"train": 8, "val": 4}
    assert found.labels == {"train": 16, "val": 8}
    assert found.channels == 3
    assert found.warnings == ()


def test_digest_depends_on_names_and_labels_and_not_on_where_it_lies(tmp_path: Path) -> None:
    one, two = make_dataset(tmp_path / "one", 3, 2), make_dataset(tmp_path / "two" / "deep", 3, 2)
    start = data.check(one).digest
    assert data.check(two).digest == start
    label = two.parent / "labels" / "val" / "0.txt"
    label.write_text(label.read_text().replace("0.", "0.0", 1))
    changed = data.check(two).digest
    assert changed != start
    one.write_text(one.read_text().replace("green", "blue"))
    assert data.check(one).digest not in (start, changed)


def test_an_unusable_label_file_is_told_and_not_counted(own_data: Path) -> None:
    (own_data.parent / "labels" / "train" / "1.txt").write_text("0 0.5 0.5 hello 0.1\n")
    found = data.check(own_data)
    assert found.labels["train"] == 6
    (warning,) = found.warnings
    assert "1 of 4 images have unusable labels" in warning
    assert "1.txt" in warning


@pytest.mark.parametrize(
    ("line", "good"),
    [
        ("0 0.5 0.5 0.1 0.1", True),
        ("1 0.1 0.1 0.9 0.1 0.9 0.9", True),
        ("1.0 0.5 0.5 0.1 0.1", True),
        ("0 0.5 0.5 0.1", False),
        ("0 0.5 0.5 1.5 0.1", False),
        ("0 -0.5 0.5 0.5 0.1", False),
        ("0 nan 0.5 0.5 0.1", False),
        ("0.5 0.5 0.5 0.5 0.1", False),
        ("nan 0.5 0.5 0.5 0.1", False),
    ],
)
def test_rows_of_a_label_file(own_data: Path, line: str, good: bool) -> None:
    (own_data.parent / "labels" / "train" / "0.txt").write_text(line + "\n")
    found = data.check(own_data)
    assert found.labels["train"] == (7 if good else 6)
    assert bool(found.warnings) is not good


def test_splits_given_as_a_list_of_files(own_data: Path) -> None:
    pictures = sorted((own_data.parent / "images" / "train").iterdir())[:2]
    (own_data.parent / "few.txt").write_text("".join(f"./images/train/{p.name}\n" for p in pictures))
    own_data.write_text(own_data.read_text().replace("train: images/train", "train: few.txt"))
    assert data.check(own_data).images == {"train": 2, "val": 2}


def test_a_dataset_in_the_working_directory(own_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own_data.parent)
    assert data.check("data.yaml").images == {"train": 4, "val": 2}
