"""Tiny datasets and models of the five tasks, and of YOLO26's heads; a trial of each takes about a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np

KEYPOINTS = (4, 3)  # the corners of a rectangle, each x, y and visible
COLOURS = {"red": (40, 40, 255), "green": (40, 255, 40)}
BODY = """\
nc: 2
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, C2f, [16, True]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, SPPF, [32, 5]]
"""
NECK = """\
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 4], 1, Concat, [1]]
  - [-1, 1, C2f, [32]]
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 3], 1, Concat, [1]]
  - [-1, 1, C2f, [16]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [[-1, 9], 1, Concat, [1]]
  - [-1, 1, C2f, [32]]
"""
HEADS = {  # name -> (task, head, whether it is YOLO26's with a second, NMS-free head)
    "detect": ("detect", "Detect, [nc]", False),
    "segment": ("segment", "Segment, [nc, 8, 16]", False),
    "pose": ("pose", "Pose, [nc, kpt_shape]", False),
    "obb": ("obb", "OBB, [nc, 1]", False),
    "classify": ("classify", "Classify, [nc]", False),
    "detect26": ("detect", "Detect, [nc]", True),
    "segment26": ("segment", "Segment26, [nc, 8, 16]", True),
    "pose26": ("pose", "Pose26, [nc, kpt_shape]", True),
    "obb26": ("obb", "OBB26, [nc, 1]", True),
}


def make_model(file: Path, name: str) -> Path:
    """Write the YAML of a tiny model of :data:`HEADS`."""
    task, head, two_heads = HEADS[name]
    text = BODY + ("head:\n  - [-1, 1, " if task == "classify" else f"{NECK}  - [[12, 15], 1, ") + head + "]\n"
    if task == "pose":
        text = f"kpt_shape: [17, 3]\n{text}"
    file.write_text(f"end2end: True\nreg_max: 1\n{text}" if two_heads else text)
    return file


def make_data(root: Path, task: str, train: int = 8, val: int = 4, size: int = 64) -> Path:
    """Noise with a red and a green rectangle a picture, or one of them a picture for classify; what --data takes."""
    if task == "classify":
        return _folders(root, train, val, size)
    import cv2

    draw = np.random.default_rng(7)
    for split, count in (("train", train), ("val", val), ("test", val)):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for i in range(count):
            image, lines = draw.integers(0, 60, (size, size, 3), dtype=np.uint8), []
            for c, colour in enumerate(COLOURS.values()):
                w, h = draw.integers(size // 4, size // 2, 2)
                x, y = draw.integers(0, size - w), draw.integers(0, size - h)
                image[y : y + h, x : x + w] = colour
                corners = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)]) / size
                lines.append(" ".join([str(c), *(f"{v:.6f}" for v in row_of(task, corners))]))
            assert cv2.imwrite(str(root / "images" / split / f"{i}.png"), image)
            (root / "labels" / split / f"{i}.txt").write_text("\n".join(lines) + "\n")
    extra = f"kpt_shape: {list(KEYPOINTS)}\nflip_idx: [1, 0, 3, 2]\n" if task == "pose" else ""
    file = root / "data.yaml"
    file.write_text(f"train: images/train\nval: images/val\ntest: images/test\n{extra}names:\n  0: red\n  1: green\n")
    return file


def row_of(task: str, corners: np.ndarray) -> list[float]:
    """A label row's values behind the class, for a rectangle's corners [4, 2] in parts of the picture."""
    low, high = corners.min(0), corners.max(0)
    box = [*((low + high) / 2), *(high - low)]
    if task == "pose":
        return [*box, *(v for corner in corners for v in (*corner, 2))]
    return box if task == "detect" else [*corners.flatten()]


def _folders(root: Path, train: int, val: int, size: int) -> Path:
    import cv2

    draw = np.random.default_rng(7)
    for split, count in (("train", train), ("val", val), ("test", val)):
        for name, colour in COLOURS.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count // 2):
                image = draw.integers(0, 60, (size, size, 3), dtype=np.uint8)
                image[8:40, 8:40] = colour
                assert cv2.imwrite(str(root / split / name / f"{i}.png"), image)
    return root
