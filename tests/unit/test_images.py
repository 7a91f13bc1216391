"""Which images cannot be opened, found without decoding any."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from nas import images
from nas.dataset import DataError


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A picture of noise."""
    Image.effect_noise((64, 48), 50).save(tmp_path / "good.png")
    return tmp_path / "good.png"


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "webp", "tif"])
def test_a_good_image(ending: str, tmp_path: Path) -> None:
    Image.effect_noise((64, 48), 50).save(tmp_path / f"x.{ending}")
    assert images.fault(str(tmp_path / f"x.{ending}")) is None


@pytest.mark.parametrize(
    ("content", "part"), [(b"", "empty file"), (b"text", "no image"), (b"\x89PNG\r\n\x1a\n", "no image")]
)
def test_a_file_that_is_none(content: bytes, part: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(content)
    assert part in str(images.fault(str(tmp_path / "x.png")))


def test_one_that_is_cut_off_or_too_small_or_gone(good: Path, tmp_path: Path) -> None:
    content = good.read_bytes()
    good.write_bytes(content[: len(content) // 2])
    assert "cut off" in str(images.fault(str(good)))
    Image.new("RGB", (64, 9)).save(good)
    assert images.fault(str(good)) == "64 x 9 pixels, expected at least 10 of each"
    assert images.fault(str(tmp_path / "gone.png")) == "no such file"


def test_a_png_with_something_behind_its_end_is_good(good: Path) -> None:
    good.write_bytes(good.read_bytes() + b"more")
    assert images.fault(str(good)) is None


def test_a_file_that_was_good_and_was_damaged_is_looked_at_again(good: Path) -> None:
    assert images.fault(str(good)) is None
    good.write_bytes(b"damaged")
    assert images.fault(str(good)) is not None


def test_some_are_a_warning_and_all_are_an_error(good: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"")
    warnings: list[str] = []
    found = images.readable([str(good), str(tmp_path / "bad.png")], "data.yaml", "train", warnings)
    assert list(found) == [str(tmp_path / "bad.png")]
    assert "train: 1 of 2 images cannot be opened" in warnings[0]
    with pytest.raises(DataError, match=r"not one that can be opened; first: .*bad\.png: an empty file"):
        images.readable([str(tmp_path / "bad.png")], "data.yaml", "train", warnings)
