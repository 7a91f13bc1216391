"""Datasets of every task: what is counted, what is refused, and that a label file is judged as Ultralytics does."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from task_data import make_data
from ultralytics.data.utils import verify_image_label

from nas import data
from nas.labels import BadLabels, Layout, WrongLabels, classes

TASKS = ("detect", "segment", "pose", "obb", "classify")
BOX, TRIANGLE, CORNERS = "0.5 0.5 0.2 0.2", "0.1 0.1 0.9 0.1 0.9 0.9", "0.1 0.1 0.4 0.1 0.4 0.3 0.1 0.3"
POSE = f"{BOX} 0.1 0.2 2 0.3 0.4 1"  # two keypoints of three values
TEXTS = [
    *(f"0 {row}" for row in (BOX, TRIANGLE, CORNERS, POSE)),
    *("", "\n\n", "0", "0 0.5", "a b c d e", "0 0.5 0.5 0.2 inf", "nan 0.5 0.5 0.2 0.2", "0.5 0.5 0.5 0.2 0.2"),
    *(f"0 {BOX} 0.1", f"0 {BOX}\n1 {TRIANGLE}", f"0 {BOX}\n1 {POSE}", f"0 {TRIANGLE}\n1 {CORNERS}", f"-1 {BOX}"),
    *("0 1.005 0.5 0.2 0.2", "0 1.02 0.5 0.2 0.2", "0 -0.005 0.5 0.2 0.2", "0 0.5 0.5 -0.005 0.2", "0 0.5 0.5 1.5 0.1"),
    *(
        "0 0.9 0.9 1.05 0.9 1.05 1.05",
        "0 1.1 1.1 1.2 1.1 1.2 1.2",
        "0 0.1 0.1 0.9 0.1 0.9",
        "0 -0.2 0.1 0.1 0.1 0.9 0.9",
    ),
    *(f"0 {BOX} 0.1 0.2 2 1.02 0.4 1", f"0 {BOX} 0.1 -0.2 2 0.3 0.4 1", "0 1.5 0.5 0.2 0.2 0.1 0.2 2 0.3 0.4 1"),
]


@pytest.mark.parametrize("task", TASKS)
def test_a_good_dataset_of_every_task_is_counted(task: str, datasets: Callable[[str], Path]) -> None:
    found = data.check(datasets(task), task)
    assert found.images == {"train": 16, "val": 8}
    assert found.labels == ({"train": 16, "val": 8} if task == "classify" else {"train": 32, "val": 16})
    assert sorted(found.names.values()) == ["green", "red"]
    assert found.keypoints == ((4, 3) if task == "pose" else None)
    assert found.title == task
    assert found.warnings == ()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture whose label file a test writes."""
    root = make_data(tmp_path_factory.mktemp("one"), "detect", 1, 1).parent
    return root / "images" / "train" / "0.png"


@pytest.mark.parametrize("layout", [Layout(t) for t in ("detect", "segment", "obb")] + [
    Layout("pose", (2, 3)), Layout("detect", (2, 3)), Layout("segment", (2, 3)),
], ids=lambda x: f"{x.task}-{x.keypoints}")  # fmt: skip
def test_a_label_file_is_judged_as_ultralytics_judges_it(layout: Layout, image: Path) -> None:
    draw = random.Random(0)
    values = ["0", "1", "0.5", "0.2", "1.005", "1.02", "-0.005", "-0.5", "x"]
    often = [9, 9, 30, 30, 1, 1, 1, 1, 0.3]
    many = [
        "\n".join(" ".join(["0", *draw.choices(values, often, k=width - 1)]) for _ in "12"[:n])
        for width in (4, 5, 5, 5, 6, 7, 7, 8, 9, 9, 11, 11, 11) for n in (1, 2) for _ in range(12)
    ]  # fmt: skip
    judged = {True: 0, False: 0}
    for text in TEXTS + many:
        label = image.with_suffix(".txt")
        label.write_text(text)
        nkpt, ndim = layout.keypoints or (0, 0)
        result = verify_image_label((str(image), str(label), "", layout.task == "pose", 9, nkpt, ndim, False))
        dropped, boxes_only = result[0] is None, result[0] is not None and len(result[1]) and not result[3]
        judged[dropped] += 1
        try:
            found = classes(text, layout)
        except BadLabels:
            assert dropped, (text, "Ultralytics keeps it")
        except WrongLabels:
            assert boxes_only and layout.task in ("segment", "obb"), text
        else:
            assert not dropped or min(found, default=0) < 0, (text, result[-1])
            if not dropped and len(set(text.splitlines())) == len(
                text.splitlines()
            ):  # it drops rows that are twice there
                assert len(found) == len(result[1]), text
    assert min(judged.values()) > 20


def test_polygons_of_other_than_four_corners_are_told_for_obb(tmp_path: Path) -> None:
    file = make_data(tmp_path / "x", "obb", 4, 2)
    (file.parent / "labels" / "train" / "0.txt").write_text(f"0 {TRIANGLE}\n")
    (warning,) = data.check(file, "obb").warnings
    assert "1 label files have polygons of other than four corners" in warning
    assert data.check(file, "segment").warnings == ()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("kpt_shape: [4, 3]\n", "", "needs kpt_shape"),
        ("[4, 3]", "4", "'kpt_shape' must be list"),
        ("[4, 3]", "[4, 5]", "2 or 3 values"),
        ("[4, 3]", "[0, 3]", "needs kpt_shape"),
        ("[4, 3]", "[a, 3]", "kpt_shape"),
        ("[1, 0, 3, 2]", "[1, 0]", "flip_idx has 2 values, kpt_shape says 4 keypoints"),
        ("names:", "kpt_oks_sigmas: [0.1]\nnames:", "kpt_oks_sigmas has 1 values"),
        ("[4, 3]\nflip_idx: [1, 0, 3, 2]", "[5, 3]", "a row of 17 columns, expected 20: class, box, 5 x 3 values"),
    ],
)
def test_faults_of_keypoints(tmp_path: Path, old: str, new: str, told: str) -> None:
    file = make_data(tmp_path / "x", "pose", 2, 1)
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(data.DataError, match="dataset ") as e:
        data.check(file, "pose")
    assert told in str(e.value)
    assert len(str(e.value).splitlines()) == 1


def test_the_digest_of_a_pose_dataset_holds_what_is_said_of_its_keypoints(tmp_path: Path) -> None:
    file = make_data(tmp_path / "x", "pose", 2, 1)
    pose, boxes = data.check(file, "pose").digest, data.check(file, "detect").digest
    file.write_text(file.read_text().replace("flip_idx: [1, 0, 3, 2]\n", ""))
    assert data.check(file, "pose").digest != pose
    assert data.check(file, "detect").digest == boxes


def test_unusable_labels_say_why(tmp_path: Path) -> None:
    file = make_data(tmp_path / "x", "segment", 4, 2)
    label = file.parent / "labels" / "train" / "1.txt"
    label.write_text(f"0 {TRIANGLE}\n1 {BOX}\n")
    found = data.check(file, "segment")
    assert found.labels["train"] == 6
    assert (
        f"1 of 4 images have unusable labels and are ignored by Ultralytics (first: {label}: rows of boxes and"
        in (found.warnings[0])
    )
    label.write_text(f"1 {BOX}\n")
    with pytest.raises(data.DataError, match=r"1\.txt has rows of 5 columns, expected a class and at least three"):
        data.check(file, "segment")


def drop(*names: str) -> Callable[[Path], None]:
    """Remove folders."""

    def fault(root: Path) -> None:
        for name in names:
            shutil.rmtree(root / name)

    return fault


def flat(root: Path) -> None:
    for split in ("train", "val"):
        for file in [*(root / split).rglob("*.png")]:
            file.rename(root / split / f"{file.parent.name}{file.name}")
        for folder in [*(root / split).iterdir()]:
            if folder.is_dir():
                folder.rmdir()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (drop("train"), ["no train in it", "got val"]),
        (drop("val"), ["no val in it", "got train"]),
        (drop("train", "val"), ["no train and no val", "got no folder"]),
        (drop("train/red"), ["takes two"]),
        (drop("val/red", "val/green"), ["holds no image"]),
        (flat, ["no class folder"]),
    ],
    ids=["no train", "no val", "nothing", "one class", "empty val", "no classes"],
)
def test_faults_of_class_folders(tmp_path: Path, fault: Callable[[Path], None], told: list[str]) -> None:
    root = make_data(tmp_path / "x", "classify", 4, 2)
    shutil.rmtree(root / "test")
    fault(root)
    with pytest.raises(data.DataError) as e:
        data.check(root, "classify")
    for part in told:
        assert part in str(e.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x"], "Ultralytics splits such a folder into another"


def test_a_folder_that_is_not_there_is_not_looked_for_in_the_network(tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match="no such folder; expected a folder with train/ and val/"):
        data.check(tmp_path / "none", "classify")


def test_class_folders_that_val_alone_has_and_a_test_split_in_vals_place_are_told(tmp_path: Path) -> None:
    root = make_data(tmp_path / "x", "classify", 4, 2)
    shutil.rmtree(root / "test")
    shutil.copytree(root / "val" / "red", root / "val" / "blue")
    assert data.check(root, "classify").warnings == ("no training image of 1 classes that val has: blue",)
    (root / "val").rename(root / "test")
    assert data.check(root, "classify").warnings[0] == "there is no val/: Ultralytics validates on test/"


def test_the_digest_of_class_folders_depends_on_what_lies_in_them(tmp_path: Path) -> None:
    one, two = (make_data(tmp_path / name, "classify", 4, 2) for name in ("one", "two"))
    start = data.check(one, "classify").digest
    assert data.check(two, "classify").digest == start
    (two / "train" / "red" / "0.png").rename(two / "train" / "green" / "9.png")
    assert data.check(two, "classify").digest != start
