"""A study's surroundings: storages, differences between recipes, passwords."""

from __future__ import annotations

import pytest

from nas import storage, study
from nas.recipe import RecipeError


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "sqlite:////no/such/folder/x.db",
        "mysql+nope://a@b/c",
        "redis://127.0.0.1:1",
        "",
        "sqlite:///" + "\0",
    ],
)
def test_a_storage_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(RecipeError, match="cannot be used"):
        storage.open_storage(url)


def test_a_password_is_never_shown() -> None:
    url = "postgresql+psycopg://me:s3cret@127.0.0.1:1/x"
    assert "s3cret" not in storage.hide_password(f"no luck with {url}", url)
    assert "127.0.0.1" in storage.hide_password(f"no luck with {url}", url)
    with pytest.raises(RecipeError) as e:
        storage.open_storage(url)
    assert "s3cret" not in str(e.value)


def test_a_password_with_escapes_is_never_shown() -> None:
    url = "postgresql://me:p%40ss@127.0.0.1:1/x"
    shown = storage.hide_password(f"{url} refused p@ss", url)
    assert "p%40ss" not in shown
    assert "p@ss" not in shown


def test_differences_name_the_key_and_both_values() -> None:
    old = {"a": 1, "train": {"x": 1, "y": 2}, "gone": 0}
    new = {"a": 1, "train": {"x": 1, "y": 3}, "new": 4}
    assert list(study.differences(old, new)) == [
        "gone: then 0, now None",
        "new: then None, now 4",
        "train.y: then 2, now 3",
    ]
    assert list(study.differences(old, old)) == []
