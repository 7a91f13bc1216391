"""Goes in: nothing. Comes out: the demo's dataset, made once in the user's cache, and weights trained on it.

The scenes: 128 x 128 pictures with digits from scikit-learn's handwritten set. One **key** stands somewhere in
every picture, a blue 0 or a red 1. A 4, 6 or 7 has one class beside a 0 and another beside a 1, wherever the key
stands; a 2 or 3 is a 2 or 3. So the class of every second box cannot be told from the box alone: what stands
elsewhere decides. The base that comes with the project learnt on these scenes with the classes of 4, 6 and 7 drawn by
lot, see scripts/demo_base.py.

Same bytes everywhere for a seed: raw PCG64 output, whole numbers only, and uncompressed BMP. No handwritten
digit stands in two splits.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

DEMO_BASE = Path(__file__).parent / "assets" / "demo-yolov10n.pt"
VERSION = 2  # of the scenes; part of the folder's name
IMAGE_SIZE = 128  # pixels
SPLITS = {"train": 800, "val": 200, "test": 200}  # images
KEYS = (0, 1)
LIGHT = ((255, 60, 60), (60, 60, 255))  # colour of each key: blue, green, red
PLAIN = (2, 3)
KEYED = (4, 6, 7)
NAMES = tuple(str(d) for d in KEYS + PLAIN) + tuple(f"{d} beside a {k}" for k in KEYS for d in KEYED)

Ints = NDArray[np.int64]
T = TypeVar("T")


class DemoError(RuntimeError):
    """The demo's dataset could not be made; the message says what to do."""


@dataclass(frozen=True)
class Scene:
    """A picture [size, size, 3] (blue, green, red) and its boxes: class, left, top, right, bottom in pixels."""

    image: NDArray[np.uint8]
    boxes: tuple[tuple[int, int, int, int, int], ...]


class Draw:
    """Whole random numbers from raw PCG64 output, which NumPy keeps the same in all versions."""

    def __init__(self, *seed: int) -> None:
        self.bits = np.random.PCG64(np.random.SeedSequence(seed))

    def many(self, below: int, n: int) -> Ints:
        """[n] numbers in 0 .. below - 1."""
        raw = self.bits.random_raw(n) >> np.uint64(32)
        return ((raw * np.uint64(below)) >> np.uint64(32)).astype(np.int64)

    def between(self, low: int, high: int) -> int:
        """A number in low .. high."""
        return low + int(self.many(high - low + 1, 1)[0])

    def one(self, of: Sequence[T]) -> T:
        """An item."""
        return of[self.between(0, len(of) - 1)]


def demo_dataset(root: Path | None = None, seed: int = 0) -> Path:
    """The demo's data.yaml, made if it is not there or damaged.

    Args:
        root: Folder to keep it in; by default ``yolo-attention-nas`` in the user's cache.
        seed: Another seed, other scenes.

    Raises:
        DemoError: It cannot be written.
    """
    root = cache_folder() if root is None else Path(root)
    home = root / f"demo-v{VERSION}-seed{seed}"
    if not _whole(home):
        try:
            root.mkdir(parents=True, exist_ok=True)
            _make(home, seed)
        except OSError as e:
            hint = "set XDG_CACHE_HOME to a writable folder"
            raise DemoError(f"demo dataset: cannot write {home}: {e}; {hint}") from e
    return home / "data.yaml"


def digest(home: Path) -> str:
    """SHA-256 of the names and bytes of data.yaml and of all images and labels below ``home``."""
    found = hashlib.sha256()
    files = [*sorted(home.glob("images/*/*.bmp")), *sorted(home.glob("labels/*/*.txt"))]
    for file in [home / "data.yaml", *files]:
        data = file.read_bytes()
        found.update(f"{file.relative_to(home).as_posix()} {len(data)}\n".encode() + data)
    return found.hexdigest()


def scenes(split: str, n: int, seed: int = 0) -> Iterator[Scene]:
    """The first ``n`` scenes of a split."""
    draw = Draw(seed, list(SPLITS).index(split))
    glyphs = handwritten(split)
    for _ in range(n):
        yield _scene(draw, glyphs)


def handwritten(split: str) -> dict[int, Ints]:
    """Digit -> its pictures [n, 8, 8] in 0..255; four of six go to train, one to val, one to test."""
    from sklearn.datasets import load_digits

    data = load_digits()
    part = np.arange(len(data.target)) % 6
    mine = {"train": part < 4, "val": part == 4, "test": part == 5}[split]
    images = data.images.astype(np.int64) * 255 // 16
    return {d: images[mine & (data.target == d)] for d in KEYS + PLAIN + KEYED}


def _scene(draw: Draw, glyphs: dict[int, Ints]) -> Scene:
    """One key and three to five other digits on a noisy grey ground, none over another."""
    size = IMAGE_SIZE
    image = draw.between(40, 110) + draw.many(31, size * size * 3).reshape(size, size, 3) - 15
    taken = np.zeros((size, size), bool)
    key = draw.one(KEYS)
    boxes = []
    for i, digit in enumerate([key, *(draw.one(PLAIN + KEYED) for _ in range(draw.between(3, 5)))]):
        shining = i == 0
        side = draw.between(24, 40) if shining else draw.between(16, 36)
        place = _free(draw, taken, side)
        if place is None:
            continue
        x, y = place
        glyph = glyphs[digit][draw.between(0, len(glyphs[digit]) - 1)]
        ink = _enlarge(glyph, side)[..., None]  # [side, side, 1]
        colour = np.array(LIGHT[key]) if shining else 170 + draw.many(86, 3)
        patch = image[y : y + side, x : x + side]
        patch[:] = (patch * (255 - ink) + colour * ink) // 255
        rows, columns = np.nonzero(ink[..., 0] > 64)
        name = f"{digit} beside a {key}" if digit in KEYED else str(digit)
        box = (x + columns.min(), y + rows.min(), x + columns.max() + 1, y + rows.max() + 1)
        boxes.append((NAMES.index(name), *(int(v) for v in box)))
    return Scene(image.clip(0, 255).astype(np.uint8), tuple(boxes))  # type: ignore[arg-type]


def _free(draw: Draw, taken: NDArray[np.bool_], side: int) -> tuple[int, int] | None:
    """Left and top of a free square with a pixel of margin, now taken; None after 40 tries."""
    for _ in range(40):
        x, y = draw.between(0, IMAGE_SIZE - side), draw.between(0, IMAGE_SIZE - side)
        if not taken[max(0, y - 1) : y + side + 1, max(0, x - 1) : x + side + 1].any():
            taken[y : y + side, x : x + side] = True
            return x, y
    return None


def _enlarge(glyph: Ints, side: int) -> Ints:
    """[n, n] -> [side, side], bilinear in fixed point with eight bits."""
    n = len(glyph)
    at = np.clip((2 * np.arange(side) + 1) * n * 128 // side - 128, 0, (n - 1) * 256)
    i, f = np.minimum(at >> 8, n - 2), at - (np.minimum(at >> 8, n - 2) << 8)
    rows = glyph[i] * (256 - f)[:, None] + glyph[i + 1] * f[:, None]
    return (rows[:, i] * (256 - f) + rows[:, i + 1] * f) >> 16


def bmp(image: NDArray[np.uint8]) -> bytes:
    """An image [h, w, 3] (blue, green, red; w a multiple of 4) as an uncompressed 24-bit BMP."""
    h, w, _ = image.shape
    pixels = image[::-1].tobytes()
    head = struct.pack("<2sIHHI", b"BM", 54 + len(pixels), 0, 0, 54)
    return head + struct.pack("<IiiHHIIiiII", 40, w, h, 1, 24, 0, len(pixels), 2835, 2835, 0, 0) + pixels


def _make(home: Path, seed: int) -> None:
    """Write everything beside ``home``, then rename: half a dataset is never seen under its name."""
    new = Path(tempfile.mkdtemp(prefix=f".{home.name}-", dir=home.parent))
    try:
        for split, n in SPLITS.items():
            for kind in ("images", "labels"):
                (new / kind / split).mkdir(parents=True)
            for i, scene in enumerate(scenes(split, n, seed)):
                (new / "images" / split / f"{i:04d}.bmp").write_bytes(bmp(scene.image))
                (new / "labels" / split / f"{i:04d}.txt").write_bytes(_labels(scene).encode())
        names = "".join(f"  {i}: {name}\n" for i, name in enumerate(f'"{n}"' for n in NAMES))
        paths = "".join(f"{split}: images/{split}\n" for split in SPLITS)
        (new / "data.yaml").write_bytes(f"{paths}names:\n{names}".encode())
        (new / "sha256").write_text(digest(new))
        new.chmod(0o755)
        with contextlib.suppress(FileNotFoundError):
            home.rename(new / "damaged")
        with contextlib.suppress(OSError):  # another process was first; what it made is the same
            new.rename(home)
        shutil.rmtree(home / "damaged", ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    if not _whole(home):
        raise DemoError(f"demo dataset: {home} is damaged and could not be replaced; delete it and try again")


def _labels(scene: Scene) -> str:
    """Lines ``class x y w h``: centre and size over the side of the image."""
    lines = []
    for c, x0, y0, x1, y1 in scene.boxes:
        values = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
        lines.append(" ".join([str(c), *(f"{v / IMAGE_SIZE:.6f}" for v in values)]) + "\n")
    return "".join(lines)


def _whole(home: Path) -> bool:
    """Is every byte there that was written?"""
    try:
        return (home / "sha256").read_text() == digest(home)
    except OSError:
        return False


def cache_folder() -> Path:
    """The user's cache: the demo's scenes and warm bases."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yolo-attention-nas"
