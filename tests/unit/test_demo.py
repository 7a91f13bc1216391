"""The demo: the same scenes everywhere, whole or not at all, and a base that loads with no code of ours."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from nas import demo

DIGEST = "fd785102fed74350f32ed90b117eb9bc9ceb1e52574cdb6462b7af323e3cd2b3"  # of seed 0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.demo_dataset(tmp_path_factory.mktemp("demo")).parent


def test_same_bytes_for_a_seed(home: Path) -> None:
    assert demo.digest(home) == DIGEST
    for split, n in demo.SPLITS.items():
        assert len(list((home / "images" / split).glob("*.bmp"))) == n
        assert len(list((home / "labels" / split).glob("*.txt"))) == n


def test_another_seed_gives_other_scenes() -> None:
    a, b = (next(iter(demo.scenes("val", 1, seed))) for seed in (0, 1))
    assert not np.array_equal(a.image, b.image)


def test_no_digit_in_two_splits() -> None:
    hashes = [
        {hashlib.sha256(g.tobytes()).hexdigest() for glyphs in demo.handwritten(s).values() for g in glyphs}
        for s in demo.SPLITS
    ]
    assert sum(map(len, hashes)) == len(set.union(*hashes)) > 1000


@pytest.mark.parametrize("split", demo.SPLITS)
def test_boxes_lie_inside_and_classes_are_complete(split: str) -> None:
    seen = set()
    for scene in demo.scenes(split, 100):
        assert scene.image.shape == (demo.IMAGE_SIZE, demo.IMAGE_SIZE, 3)
        for c, x0, y0, x1, y1 in scene.boxes:
            seen.add(c)
            assert 0 <= x0 < x1 <= demo.IMAGE_SIZE and 0 <= y0 < y1 <= demo.IMAGE_SIZE
    assert seen == set(range(len(demo.NAMES)))


def test_one_key_decides_the_classes_of_a_scene() -> None:
    for scene in demo.scenes("val", 100):
        names = [demo.NAMES[box[0]] for box in scene.boxes]
        (key,) = [name for name in names if name in ("0", "1")]
        assert all(name.endswith(f"a {key}") for name in names if "beside" in name)


def test_ultralytics_reads_images_and_labels_as_written(home: Path) -> None:
    import cv2

    scene = next(iter(demo.scenes("train", 1)))
    assert np.array_equal(cv2.imread(str(home / "images" / "train" / "0000.bmp")), scene.image)
    for line, box in zip((home / "labels" / "train" / "0000.txt").read_text().splitlines(), scene.boxes, strict=True):
        c, x, y, w, h = (float(v) for v in line.split())
        edges = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) * demo.IMAGE_SIZE
        assert c == box[0]
        assert np.allclose(edges, box[1:], atol=1e-3)


def test_names_of_the_yaml(home: Path) -> None:
    import yaml

    found = yaml.safe_load((home / "data.yaml").read_text())
    assert "path" not in found  # so that it resolves against its own folder
    assert found["names"] == dict(enumerate(demo.NAMES))


def test_a_damaged_set_is_made_anew_and_leaves_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "SPLITS", {"train": 3, "val": 2})
    file = demo.demo_dataset(tmp_path)
    whole = demo.digest(file.parent)
    (file.parent / "images" / "train" / "0001.bmp").write_bytes(b"half")
    (file.parent / "labels" / "train.cache").write_bytes(b"of Ultralytics, no part of the set")
    assert demo.demo_dataset(tmp_path) == file
    assert demo.digest(file.parent) == whole
    assert [p.name for p in tmp_path.iterdir()] == [file.parent.name]


def test_an_interrupted_making_leaves_no_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(image: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "bmp", stop)
    with pytest.raises(KeyboardInterrupt):
        demo.demo_dataset(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(demo.DemoError, match="XDG_CACHE_HOME"):
        demo.demo_dataset(tmp_path / "file" / "below")


def test_the_base_is_small_and_names_no_machine() -> None:
    assert demo.DEMO_BASE.stat().st_size < 6_000_000
    with zipfile.ZipFile(demo.DEMO_BASE) as archive:
        (pickled,) = [archive.read(n) for n in archive.namelist() if n.endswith("data.pkl")]
    for word in (b"/work", b"/tmp", b"/root", b"/home", b"cmodules", b"cnas"):
        assert word not in pickled, word


def test_the_base_loads_in_stock_ultralytics() -> None:
    from ultralytics import YOLO

    model = YOLO(demo.DEMO_BASE)
    assert model.names == dict(enumerate(demo.NAMES))
    scene = next(iter(demo.scenes("val", 1)))
    (found,) = model.predict(scene.image, imgsz=demo.IMAGE_SIZE, device="cpu", verbose=False)
    assert len(found.boxes) >= 3
