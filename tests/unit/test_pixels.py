"""Images decoded once a machine: the batches of Ultralytics' own cache, whatever happens to the file."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import make_dataset
from training import build, short
from ultralytics.cfg import get_cfg
from ultralytics.data.build import build_yolo_dataset
from ultralytics.data.utils import check_det_dataset

from nas import pixels
from nas.train import Short

KINDS = {
    "train": ("train", {}),
    "mosaic": ("train", {"mosaic": 1.0, "mixup": 0.5, "cutmix": 0.3, "copy_paste": 0.3}),
    "nothing changed": ("train", {"scale": 0.0, "translate": 0.0, "mosaic": 0.0}),  # HSV works in place
    "val": ("val", {}),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the files are."""
    return tmp_path / "pixels"


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset whose pictures have three shapes; read only."""
    file = make_dataset(tmp_path_factory.mktemp("uneven"))
    for i, picture in enumerate(sorted(file.parent.glob("images/*/*.png"))):
        image = cv2.imread(str(picture))
        cv2.imwrite(str(picture), cv2.resize(image, ((64, 64), (90, 60), (48, 120))[i % 3]))
    return file


def read(data: Path, mode: str = "train", cache: Any = False, imgsz: int = 64, **args: Any) -> Any:
    """Ultralytics' dataset of a split."""
    hyp = get_cfg(overrides={"imgsz": imgsz, "cache": cache, "mosaic": 0.0, **args})
    found = check_det_dataset(str(data))
    return build_yolo_dataset(hyp, found[mode], 4, found, mode=mode, rect=mode == "val", stride=32)


def drawn(dataset: Any) -> list[dict[str, Any]]:
    """All samples twice, under one seed."""
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    return [dataset[i] for _ in range(2) for i in range(len(dataset))]


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_those_of_ultralytics_own_cache(kind: str, uneven: Path, folder: Path) -> None:
    mode, args = KINDS[kind]
    own, shared = read(uneven, mode, "ram", **args), read(uneven, mode, **args)
    assert pixels.fill(shared, folder)
    shared.transforms = shared.build_transforms(get_cfg(overrides={"imgsz": 64, "mosaic": 0.0, **args}))
    for a, b in zip(drawn(own), drawn(shared), strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            assert type(value) is type(b[name])
            assert np.array_equal(value, b[name]), name


def test_batches_of_a_training_do_not_depend_on_whose_cache_it_was(
    tiny_base: Path, uneven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for limit in (pixels.LIMIT, 10):
        monkeypatch.setattr(pixels, "LIMIT", limit)
        monkeypatch.setattr(pixels, "cache_folder", lambda limit=limit: tmp_path / f"cache {limit}")
        monkeypatch.setattr(Short, "datasets", {})
        log = tmp_path / str(limit)
        found.append(short(build(tiny_base), uneven, log, mosaic=1.0, epochs=2)[1])
        assert ("Ultralytics caches them itself" in (log / "log.txt").read_text()) is (limit == 10)
    assert len(list(tmp_path.glob("cache */pixels/*"))) == 2, "one of train, one of val"
    assert found[0].batches_sha == found[1].batches_sha
    assert found[0].value == found[1].value


def test_images_are_decoded_once(tiny_data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = read(tiny_data), read(tiny_data)
    assert pixels.fill(first, folder)
    decoded = [np.array(first.load_image(i)[0]) for i in range(first.ni)]
    with monkeypatch.context() as patched:
        patched.setattr("ultralytics.data.base.imread", lambda *_, **__: pytest.fail("an image was decoded"))
        assert pixels.fill(second, folder)
        for i, image in enumerate(decoded):
            found, before, after = second.load_image(i)
            assert np.array_equal(found, image)
            assert (before, after) == first.load_image(i)[1:] == ((64, 64), (64, 64))
    assert len(list(folder.iterdir())) == 1


def test_what_is_written_into_an_image_stays_there(tiny_data: Path, folder: Path) -> None:
    dataset = read(tiny_data)
    assert pixels.fill(dataset, folder)
    kept = dataset.ims[0].copy()
    dataset.ims[0][:] = 7
    assert np.array_equal(dataset.ims[0], kept)
    assert (kept != 7).any()


def test_a_worker_that_is_started_anew_maps_the_file_itself(tiny_data: Path, folder: Path) -> None:
    dataset = read(tiny_data)
    assert pixels.fill(dataset, folder)
    kept = dataset.ims[3]
    text = pickle.dumps(dataset.ims)
    assert len(text) < kept.nbytes
    assert np.array_equal(pickle.loads(text)[3], kept)


def other_size(data: Path) -> Any:
    return read(data, imgsz=96)


def other_picture(data: Path) -> Any:
    file = data.parent / "images" / "train" / "0.png"
    cv2.imwrite(str(file), 255 - cv2.imread(str(file)))
    return read(data)


def other_time(data: Path) -> Any:
    file = data.parent / "images" / "train" / "0.png"
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))
    return read(data)


def decoded_by_hand(data: Path) -> Any:
    np.save(data.parent / "images" / "train" / "0.npy", np.full((64, 64, 3), 9, np.uint8))
    return read(data)


@pytest.mark.parametrize("change", [other_size, other_picture, other_time, decoded_by_hand])
def test_other_pixels_have_another_file(change: Callable[[Path], Any], own_data: Path, folder: Path) -> None:
    assert pixels.fill(read(own_data), folder)
    changed = change(own_data)
    truth = [copy(changed).load_image(i)[0] for i in range(changed.ni)]
    changed.ims = [None] * changed.ni
    assert pixels.fill(changed, folder)
    assert len(list(folder.iterdir())) == 2
    assert all(np.array_equal(changed.ims[i], image) for i, image in enumerate(truth))


def shorter(data: bytearray) -> bytes | bytearray:
    return data[: len(data) // 2]


def without_tail(data: bytearray) -> bytes | bytearray:
    return data[:-8]


def other_pixel(data: bytearray) -> bytes | bytearray:
    data[100] ^= 255
    return data


def other_table(data: bytearray) -> bytes | bytearray:
    data[-100] ^= 255
    return data


def nothing(_: bytearray) -> bytes:
    return b""


def zeros(data: bytearray) -> bytes | bytearray:
    return bytes(len(data))


@pytest.mark.parametrize("damage", [shorter, without_tail, other_pixel, other_table, nothing, zeros])
def test_a_damaged_file_is_made_anew(
    damage: Callable[[bytearray], bytes | bytearray], tiny_data: Path, folder: Path
) -> None:
    first, second = read(tiny_data), read(tiny_data)
    assert pixels.fill(first, folder)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.unlink()  # the first dataset has it mapped
    file.write_bytes(damage(bytearray(whole)))
    assert pixels.fill(second, folder)
    assert file.read_bytes() == whole


def test_two_at_once_do_no_harm(tiny_data: Path, folder: Path) -> None:
    datasets = [read(tiny_data) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda dataset: pixels.fill(dataset, folder), datasets))
    assert [file.suffix for file in folder.iterdir()] == [".pixels"]
    assert all(np.array_equal(d.ims[i], datasets[0].ims[i]) for d in datasets for i in range(d.ni))


def test_what_does_not_fit_is_left_to_ultralytics(
    tiny_data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = 8 * 64 * 64 * 3
    for name, free in (("disk_usage", 2 * need - 2), ("virtual_memory", 2 * need - 2), ("limit", need - 1)):
        dataset = read(tiny_data)
        with monkeypatch.context() as patched:
            if name == "limit":
                patched.setattr(pixels, "LIMIT", free)
            else:
                owner = pixels.shutil if name == "disk_usage" else pixels.psutil
                answer = type("Free", (), {"free": free, "available": free})
                patched.setattr(owner, name, lambda *_, answer=answer: answer)
            assert not pixels.fill(dataset, folder), name
        assert dataset.cache is None
        assert dataset.ims == [None] * 8
    assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_written_is_no_failure(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    dataset = read(tiny_data)
    assert not pixels.fill(dataset, tmp_path / "file" / "pixels")
    assert dataset.cache is None


def test_the_least_recently_used_go_first(tiny_data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    for age, name in enumerate(("new.pixels", "used.pixels", "old.pixels", "killed.part")):
        (folder / name).write_bytes(bytes(60_000))
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(pixels, "LIMIT", 8 * 64 * 64 * 3 + 130_000)
    dataset = read(tiny_data)
    assert pixels.fill(dataset, folder)
    kept = {file.name for file in folder.iterdir()}
    assert kept == {"new.pixels", "used.pixels", f"{pixels.digest(dataset)}.pixels"}
    before = dataset.ims.file.stat().st_mtime
    os.utime(dataset.ims.file, (1e9, 1e9))
    assert pixels.fill(read(tiny_data), folder)
    assert dataset.ims.file.stat().st_mtime >= before, "to be used is to be recent"
