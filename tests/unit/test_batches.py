"""Common random numbers: under one seed the base and every candidate see the same batches, bit for bit."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPO, run_python
from training import build, short

BLOCKS = ({}, {"neck.p3": "eca"}, {"backbone.p4": "mhsa", "neck.p4": "sk"}, {"backbone.p3": "cot"})
KINDS = {
    "plain": {},
    "mosaic": {"mosaic": 1.0, "epochs": 2},
    "mosaic closed": {"mosaic": 1.0, "epochs": 2, "close_mosaic": 1},
    "mixed": {"mosaic": 0.5, "mixup": 0.5, "copy_paste": 0.3},
    "no cache": {"mosaic": 1.0, "cache": False},
    "workers": {"mosaic": 1.0, "workers": 2},
}


def stir(n: int) -> None:
    """Bring the ambient random states somewhere else."""
    random.seed(n)
    np.random.seed(n)
    torch.manual_seed(n)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_batches_for_base_and_candidates_under_one_seed(
    kind: str, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    found = []
    for i, blocks in enumerate(BLOCKS):
        stir(100 + i)
        _, score = short(build(tiny_base, blocks), tiny_data, tmp_path, **KINDS[kind])
        found.append(score.batches_sha)
        assert score.images_seen == 8 * KINDS[kind].get("epochs", 1)
    assert len(set(found)) == 1
    _, other = short(build(tiny_base), tiny_data, tmp_path, **KINDS[kind], seed=1)
    assert other.batches_sha != found[0]


@pytest.mark.parametrize("kind", ["plain", "mosaic", "workers"])
def test_a_fresh_process_sees_the_same_batches_as_the_second_training_of_this_one(
    kind: str, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        _, here = short(build(tiny_base, {"neck.p3": "sk"}), tiny_data, tmp_path, **KINDS[kind])
    there = run_python(
        "import sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import random, torch\n"
        "from pathlib import Path\n"
        "from training import build, short\n"
        "torch.set_num_threads(1)\n"
        "torch.manual_seed(77); random.seed(77)\n"
        f"kind = {KINDS[kind]!r}\n"
        "_, score = short(build(Path(sys.argv[2])), Path(sys.argv[3]), Path(sys.argv[4]), **kind)\n"
        "print(score.batches_sha)\n",
        REPO / "tests" / "unit",
        tiny_base,
        tiny_data,
        tmp_path / "there",
    )
    assert there.split()[-1] == here.batches_sha


def test_another_kind_of_batches_has_another_hash(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    """Or the hash would see nothing."""
    kinds = ({}, {"mosaic": 1.0}, {"fliplr": 0.0}, {"batch": 8}, {"epochs": 2})
    found = {short(build(tiny_base), tiny_data, tmp_path, **kind)[1].batches_sha for kind in kinds}
    assert len(found) == len(kinds)


def test_two_identical_trainings_end_in_the_same_weights_and_score(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    runs = []
    for ambient in (1, 2):
        stir(ambient)
        model = build(tiny_base, {"neck.p3": "sk", "backbone.p4": "cot"})
        runs.append(short(model, tiny_data, tmp_path, epochs=2, mosaic=1.0, block_lr_factor=20.0))
    (first, a), (second, b) = runs
    for key, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[key]), key
    same = [{k: v for k, v in s.to_json().items() if k != "seconds"} for s in (a, b)]
    assert same[0] == same[1]


def test_a_training_leaves_the_ambient_random_state_alone(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    stir(5)
    model = build(tiny_base)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    short(model, tiny_data, tmp_path)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])
