"""Goes in: a training's arguments. Comes out: its datasets and loaders, of an earlier training where they are equal."""

from __future__ import annotations

from copy import copy
from typing import Any

from ultralytics.engine.trainer import BaseTrainer
from ultralytics.utils.patches import override_configs

from nas import pixels
from nas.validate import Kept

READ = ("imgsz", "cache", "single_cls", "classes", "fraction", "rect", "task")  # arguments that decide what is read
DRAWN = ("scale", "fliplr", "flipud", "erasing", "auto_augment", "hsv_h", "hsv_s", "hsv_v")  # and how classify draws it


class Reading(BaseTrainer):
    """What makes Ultralytics' trainers share datasets, images and validation batches with earlier trainings."""

    datasets: dict[tuple[Any, ...], Any] = {}  # noqa: RUF012  shared by all trainings of a process

    def get_dataset(self) -> dict[str, Any]:
        """Ultralytics' reading of the dataset's YAML, once a process."""
        key = ("data", str(self.args.data), self.args.single_cls, self.args.task)
        if key not in self.datasets:
            self.datasets[key] = super().get_dataset()
        return dict(self.datasets[key])

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """The dataset of an earlier training with fresh transforms, where it reads the same."""
        key = self._key(img_path, mode, batch)
        if key not in self.datasets:
            self.datasets[key] = self._read_dataset(img_path, mode, batch)
            return self.datasets[key]
        dataset = self.datasets[key]
        if self.args.task == "classify":  # its transforms keep nothing
            return dataset
        dataset.transforms = dataset.build_transforms(hyp=copy(self.args))
        if dataset.cache != "ram":
            dataset.buffer = []
            dataset.ims = [None] * dataset.ni
        return dataset

    def _key(self, img_path: str, mode: str, batch: int | None) -> tuple[Any, ...]:
        keys = READ + DRAWN * (self.args.task == "classify")
        asked = (str(getattr(self.args, k, None)) for k in keys)
        return (str(self.args.data), str(img_path), mode, batch, getattr(self, "stride", None), *asked)

    def _read_dataset(self, img_path: str, mode: str, batch: int | None) -> Any:
        """Ultralytics' dataset; where it is to be kept in memory, one copy for all processes of the machine."""
        if self.args.task != "classify" and str(self.args.cache).lower() in ("ram", "true"):
            with override_configs(self.args, {"cache": False}):
                dataset = super().build_dataset(img_path, mode, batch)
            if pixels.fill(dataset):
                dataset.transforms = dataset.build_transforms(hyp=copy(self.args))
                return dataset
        return super().build_dataset(img_path, mode, batch)

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Ultralytics' loader; that of a validation of boxes keeps its batches, once a process."""
        if mode != "val" or self.args.task != "detect":
            return super().get_dataloader(dataset_path, batch_size, rank, mode)
        key = ("batches", *self._key(dataset_path, mode, batch_size), str(self.device))
        if key not in self.datasets:
            self.datasets[key] = Kept(super().get_dataloader(dataset_path, batch_size, rank, mode))
        return self.datasets[key]
