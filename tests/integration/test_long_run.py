"""A long search keeps to what it has: memory, handles, threads, temporary files."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import REPO


@pytest.fixture
def long_run(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/long_run.py."""
    monkeypatch.syspath_prepend(str(REPO / "scripts"))
    import long_run

    return long_run


def told(found: Any) -> str:
    """The end of what the search said."""
    return "".join(found.said[-20:])


@pytest.mark.slow  # a minute; CI has 15
def test_thirty_trainings_need_no_more_handles_threads_or_files_than_ten(long_run: ModuleType, tmp_path: Path) -> None:
    found = long_run.search(tmp_path, 15, warm=0, between=5)  # each placement is trained in two legs
    assert found.status == 0, told(found)
    last = len(found.ended)
    assert last >= 25, told(found)
    for who in ("supervisor", "worker"):
        looks = [x for x in found.looks if x.who == who]
        assert len({x.pid for x in looks}) == 1, f"one {who} all the time"
        for name in ("handles", "threads", "children"):
            then, now = (long_run.around(looks, name, n) for n in (10, last))
            assert now <= then + long_run.SPREAD, f"{who}: {then} {name} after 10 trainings, {now} after {last}"
    then, now = next(f for f in found.files if f.trials >= 10), found.files[-1]
    assert (now.temp, now.cache) == (then.temp, then.cache)
    assert now.older_logs == 0


@pytest.mark.slow
def test_three_hundred_placements_let_nothing_grow(long_run: ModuleType, tmp_path: Path) -> None:
    found = long_run.search(tmp_path, 300)
    assert found.status == 0, told(found)
    said, grown = long_run.verdict(found)
    assert not grown, "\n".join(said)
