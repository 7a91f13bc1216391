"""What a checked dataset is, and the error that says why one is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nas.errors import InputError

SPLITS = ("train", "val")


class DataError(InputError):
    """A dataset that cannot be trained on: says the file, what is wrong, and what is expected."""


@dataclass(frozen=True)
class Dataset:
    """A checked dataset in Ultralytics' format.

    Args:
        path: Its YAML, or its folder where classes are told.
        title: The folder's name.
        names: Class index -> name.
        images: Number of images of each split.
        labels: Number of boxes (polygons, poses, oriented boxes, classified images) of each split.
        channels: Channels of its images.
        digest: Twelve hexadecimal digits of class names, image names and sizes, and label contents.
        keypoints: Number of keypoints and values of each, for a pose model.
        warnings: What Ultralytics will drop, in words.
        split: What its val split is, in words: that of the user's dataset unless nas/splits.py made it.
        origin: The user's own, where this is a part of it.
    """

    path: Path
    title: str
    names: dict[int, str]
    images: dict[str, int]
    labels: dict[str, int]
    channels: int
    digest: str
    keypoints: tuple[int, int] | None = None
    warnings: tuple[str, ...] = field(default=())
    split: str = "val"
    origin: Path | None = None

    @property
    def named(self) -> Path:
        """What the user called it by."""
        return self.origin or self.path
