"""Many short trainings in one process do not fill the memory."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from conftest import REPO


def resident() -> float:
    """Resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_thirty_trainings_need_no_more_memory_than_ten(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.syspath_prepend(str(REPO / "tests" / "unit"))
    from training import build, short

    found = []
    for i in range(30):
        short(build(tiny_base, {"neck.p3": ("eca", "sk", "cot")[i % 3]}), tiny_data, tmp_path)
        gc.collect()
        found.append(resident())
    model = 2  # MiB of the tiny detector with its gradients, its average and the optimizer's moments
    assert found[29] - found[9] < 20 * model, f"{found}"
