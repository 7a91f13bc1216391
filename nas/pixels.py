"""Goes in: a dataset of Ultralytics that has read its labels. Comes out: the same with its images from one mapped file.

Images are decoded and resized once, by Ultralytics' own `load_image`, into a file in the user's cache. Every process
of the machine maps that file, so that they share one copy of it in memory. The file is written beside its place and
renamed; two processes that write the same file at once do the work twice and no harm.

The file: the pixels of all images one behind the other, then a table of seven whole numbers an image (offset, height,
width, channels, height and width before resizing, end), then a tail that tells how many and with which checksums.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
import zlib
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import ultralytics
from numpy.typing import NDArray
from ultralytics.utils import LOGGER, NUM_THREADS

from nas.demo import cache_folder

LIMIT = 20 << 30  # bytes of all files together; the least recently used go first
CHECKED = 1 << 30  # bytes of pixels up to which their checksum is compared at opening
IN_USE = 24 * 3600  # seconds since a file was opened, within which it is not removed
ABANDONED = 24 * 3600  # seconds after which a file that was never finished goes
MARK = 0x31_4C_58_50_4E_41_59  # "YANPXL1", the first number of the tail
COLUMNS, TAIL = 7, 5  # numbers in a row of the table, and in the tail

Table = NDArray[np.int64]


class Unfit(ValueError):
    """Images that are left to Ultralytics' own cache; the message says why."""


class Images:
    """A dataset's images by index. Each is a copy: a transform may write into it."""

    def __init__(self, file: Path, table: Table) -> None:
        self.file, self.table = file, table
        self.map: Any = None

    def __len__(self) -> int:
        return len(self.table)

    def mapped(self) -> Images:
        """Itself, mapped now: whoever removes the file later does not take it away."""
        self.map = np.memmap(self.file, np.uint8, "r", shape=(int(self.table[-1, 6]),))
        return self

    def __getitem__(self, i: int) -> NDArray[np.uint8]:
        if self.map is None:
            self.mapped()
        start, h, w, channels, _, _, end = self.table[i]
        return np.array(self.map[start:end]).reshape(h, w, channels)

    def __getstate__(self) -> dict[str, Any]:
        """A worker maps the file itself."""
        return {**self.__dict__, "map": None}


def fill(dataset: Any, folder: Path | None = None) -> bool:
    """Give ``dataset`` its images from the file for them, made if it is not there or damaged.

    Args:
        dataset: Built without a cache of images. Its transforms are to be built anew after this.
        folder: Where the files are; by default ``pixels`` in the user's cache.

    Returns:
        Whether it was done; if not, the log says why, and the dataset is as it was.
    """
    folder = cache_folder() / "pixels" if folder is None else folder
    before = dataset.cache
    try:
        file = folder / f"{digest(dataset)}.pixels"
        images = opened(file, dataset.ni)
        if images is None:
            dataset.cache = "ram"  # or load_image would keep what it reads
            _make(dataset, file)
            images = opened(file, dataset.ni)
            if images is None:
                raise Unfit(f"{file} is damaged and could not be replaced")
    except (OSError, ValueError) as e:
        dataset.cache = before
        LOGGER.info(f"images are not shared between processes, Ultralytics caches them itself: {e}")
        return False
    dataset.cache, dataset.ims = "ram", images
    dataset.im_hw0 = [(int(h), int(w)) for h, w in images.table[:, 4:6]]
    dataset.im_hw = [(int(h), int(w)) for h, w in images.table[:, 1:3]]
    return True


def digest(dataset: Any) -> str:
    """Hash of all that decides the pixels: files with sizes and times, size asked for, channels, versions."""
    found = hashlib.sha256()
    how = dataset.imgsz, dataset.channels, dataset.cv2_flag, type(dataset).__name__
    found.update(repr((MARK, ultralytics.__version__, cv2.__version__, how)).encode())
    for name, kept in zip(dataset.im_files, dataset.npy_files, strict=True):
        found.update(f"{name}\n{_state(name)}\n{_state(kept)}\n".encode(errors="surrogateescape"))
    return found.hexdigest()[:32]


def opened(file: Path, count: int) -> Images | None:
    """The images in a file, and a note that it was used; None if it is not there, or not whole."""
    row = COLUMNS * 8
    try:
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(size - TAIL * 8)
            mark, n, pixels, sum_of_table, sum_of_pixels = (int(x) for x in np.fromfile(stream, np.int64, TAIL))
            if (mark, n, size) != (MARK, count, pixels + n * row + TAIL * 8):
                return None
            stream.seek(pixels)
            raw = stream.read(n * row)
            if zlib.crc32(raw) != sum_of_table or (pixels <= CHECKED and _checksum(stream, pixels) != sum_of_pixels):
                return None
        with contextlib.suppress(OSError):  # somebody else's file
            os.utime(file)
        return Images(file, np.frombuffer(raw, np.int64).reshape(n, COLUMNS)).mapped()
    except (OSError, ValueError):
        return None


def _make(dataset: Any, file: Path) -> None:
    """Decode all images into ``file``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    side = dataset.imgsz if isinstance(dataset.imgsz, int) else max(dataset.imgsz)
    _check_room(dataset.ni * side * side * dataset.channels, file.parent)
    handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            _write(dataset, stream)
            stream.flush()
            os.fsync(stream.fileno())
        _prune(file.parent, LIMIT - os.path.getsize(name))
        with contextlib.suppress(PermissionError):  # on Windows, where another process has mapped what it made
            os.replace(name, file)
    finally:
        Path(name).unlink(missing_ok=True)


def _write(dataset: Any, stream: Any) -> None:
    rows, at, checksum = [], 0, 0
    with ThreadPool(NUM_THREADS) as pool:
        for image, before, _ in pool.imap(dataset.load_image, range(dataset.ni)):
            if image.dtype != np.uint8 or image.ndim != 3:
                raise Unfit(f"an image has {image.ndim} axes of {image.dtype}")
            data = image.tobytes()
            stream.write(data)
            checksum = zlib.crc32(data, checksum)
            rows.append((at, *image.shape, *before, at + len(data)))
            at += len(data)
    table = np.array(rows, np.int64).tobytes()
    stream.write(table + np.array((MARK, len(rows), at, zlib.crc32(table), checksum), np.int64).tobytes())


def _check_room(need: int, folder: Path) -> None:
    """Refuse more than half of what is free, on the disk or in memory, or more than all files may take."""
    free = {"free disk": shutil.disk_usage(folder).free // 2, "free memory": psutil.virtual_memory().available // 2}
    for what, most in {**free, "limit": LIMIT}.items():
        if need > most:
            part = "the limit" if what == "limit" else f"half of the {what}"
            raise Unfit(f"they take up to {need / 1e9:.1f} GB, {part} is {most / 1e9:.1f} GB")


def _prune(folder: Path, most: int) -> None:
    """Remove the least recently used files until the others take no more than ``most`` bytes."""
    files = []
    for file in folder.iterdir():
        with contextlib.suppress(OSError):  # gone meanwhile
            files.append((file.stat().st_mtime, file.stat().st_size, file))
    for used, _, file in files:
        if file.suffix == ".part" and used < time.time() - ABANDONED:
            with contextlib.suppress(OSError):
                file.unlink()
    total = 0
    for used, size, file in sorted((f for f in files if f[2].suffix == ".pixels"), reverse=True):
        total += size
        if total > most and used < time.time() - IN_USE:
            with contextlib.suppress(OSError):  # on Windows, where it is in use
                file.unlink()


def _checksum(stream: Any, size: int) -> int:
    stream.seek(0)
    found = 0
    while size > 0:
        part = stream.read(min(size, 1 << 24))
        if not part:
            raise ValueError("shorter than it says")
        found, size = zlib.crc32(part, found), size - len(part)
    return found


def _state(file: str | Path) -> tuple[int, int] | None:
    """Size and time of a file; None where there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
