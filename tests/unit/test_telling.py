"""A message is short, has no hidden characters, and each of its lines is an error or belongs to the one before."""

from __future__ import annotations

import pytest

from nas import telling


def test_each_line_is_an_error_or_belongs_to_the_one_before() -> None:
    assert telling.lines("a\n  b\n\nc") == ["error: a", "  b", "error: c"]
    assert telling.lines(ValueError()) == ["error: no reason was given"]


def test_a_long_word_is_shortened_and_the_rest_stays() -> None:
    (line,) = telling.lines(f"block {'x' * 100_000}: unknown; did you mean 'eca'?")
    assert len(line) < 200
    assert line.startswith("error: block xxx") and line.endswith("unknown; did you mean 'eca'?")


def test_a_long_path_stays_where_the_line_is_short() -> None:
    path = f"/{'x' * 200}/data.yaml"
    assert telling.lines(f"{path}: no such file") == [f"error: {path}: no such file"]


def test_many_lines_end_in_a_count() -> None:
    found = telling.lines("\n".join(f"fault {i} {'of it ' * 20}" for i in range(100)))
    assert len("\n".join(found)) < 2000
    assert found[-1].startswith("  ... and ") and found[-1].endswith(" more lines")


def test_what_moves_the_cursor_is_written_out() -> None:
    assert telling.lines("a\x1b[2J\rb\u202e\u2028c\udcff") == [r"error: a\x1b[2J\rb\u202e\u2028c\udcff"]


@pytest.mark.parametrize(
    ("word", "part"),
    [("x" * 5000, "5,000 characters"), ("a\0b", r"'\x00'"), ("a\nb", r"'\n'"), ("a\udcff", "no UTF-8")],
)
def test_words_that_are_refused(word: str, part: str) -> None:
    (fault,) = telling.faults_of(["search", word])
    assert fault.startswith("argument 2: ") and part in fault


def test_words_that_are_fine() -> None:
    assert telling.faults_of(["search", "--data", "/a b/größe.yaml", "名前", "", "lr0=0.1"]) == []
