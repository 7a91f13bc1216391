"""Goes in: a block of code that calls Ultralytics. Comes out: the same without its lines and its number of threads."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Ultralytics without its banner, and without the warnings of what it calls."""
    from ultralytics.utils import LOGGER

    level = LOGGER.level
    LOGGER.setLevel("ERROR")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        LOGGER.setLevel(level)


@contextmanager
def same_threads() -> Iterator[None]:
    """Torch's number of threads as it was: Ultralytics' choice of a CPU sets it to one less than there are cores."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
