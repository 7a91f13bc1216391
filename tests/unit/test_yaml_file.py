"""A YAML is read whole or refused in one line; nothing in it is run, lost, or swells."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from search_spaces.yaml_file import Unreadable, parse, read

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)


def test_plain_data_comes_back_as_pyyaml_has_it() -> None:
    assert parse("") is None
    assert parse("a: [1, 2.5, x, null, yes]\nb: {0: red}") == {"a": [1, 2.5, "x", None, True], "b": {0: "red"}}


def test_an_alias_and_a_merged_key_that_is_written_again_are_fine() -> None:
    assert parse("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  x: 3\n")["b"] == {"x": 3, "y": 2}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands there twice"),
        ("a: {b: {c: 1, c: 2}}", "line 1: the key 'c' stands there twice"),
        ("a: &a [*a]", "holds itself"),
        ("a: &a {b: [*a]}", "holds itself"),
        (BOMB, "aliases"),
        ("[" * 100_000, "nested deeper"),
        ("a: !!python/object/apply:os.system [ls]", "constructor"),
        ("a: 2024-99-99", "month"),
        ("a: " + "1" * 5000, "digits"),
        ("a:\n\t- 1", "line 2"),
        ("a: b: c", "line 1"),
        ("--- 1\n--- 2", "another document"),
        ("x: *y", "undefined alias"),
        ("a: \x1b", "control characters"),
    ],
    ids=lambda value: value[:12],
)
def test_what_is_refused(text: str, part: str) -> None:
    started = time.monotonic()
    with pytest.raises(Unreadable) as e:
        parse(text)
    assert part in str(e.value)
    assert "\n" not in str(e.value) and len(str(e.value)) < 400
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("a: 1\n".encode("utf-16"), "UTF-16"),
        ("a: ü\n".encode("latin-1"), "0xfc at 3"),
        (b"a: " + b"x" * 3_000_000, "bytes"),
    ],
)
def test_a_file_that_is_no_text_in_utf_8(content: bytes, part: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(Unreadable, match=part):
        read(tmp_path / "x.yaml")


def test_a_byte_order_mark_is_fine(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: 1\n", encoding="utf-8-sig")
    assert read(tmp_path / "x.yaml") == {"a": 1}


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="a folder"):
        read(tmp_path)
    with pytest.raises(Unreadable, match="cannot be read"):
        read(tmp_path / "x.yaml")
