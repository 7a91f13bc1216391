"""A short training: what is trained and how fast, what a failure says, what is left on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training import ARGS, build, short

from nas import train
from nas.protocol import Protocol

BOTH = {"neck.p3": "sk", "backbone.p4": "cot"}


def trained(base: Path, data: Path, folder: Path, factor: float, blocks: dict[str, str], **args: Any) -> Any:
    """A trainer after its training."""
    overrides = {**ARGS, **args, "data": str(data), "project": str(folder)}
    trainer = train.TRAINERS["detect"](build(base, blocks), overrides, Protocol(block_lr_factor=factor))
    trainer.train()
    return trainer


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
def test_blocks_learn_faster_and_gamma_does_not_decay(
    optimizer: str, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    trainer = trained(tiny_base, tiny_data, tmp_path, 20.0, BOTH, optimizer=optimizer, lr0=0.001)
    groups = trainer.optimizer.param_groups
    listed = [id(p) for g in groups for p in g["params"]]
    assert len(listed) == len(set(listed)), "a parameter twice"
    assert set(listed) == {id(p) for p in trainer.model.parameters()}, "a parameter left out"
    attends = [m for m in trainer.model.modules() if type(m).__name__ == "Attend"]
    assert len(attends) == 2
    ours = {id(p) for m in attends for p in m.parameters()}
    gammas = {id(m.gamma) for m in attends}
    decays = set()
    for group in groups:
        kinds = {id(p) in ours for p in group["params"]}
        assert len(kinds) == 1, "blocks and base in one group"
        factor = 20.0 if kinds == {True} else 1.0
        assert group["initial_lr"] == pytest.approx(0.001 * factor)
        assert group["lr"] == pytest.approx(groups[0]["lr"] / groups[0]["initial_lr"] * group["initial_lr"])
        for p in group["params"]:
            if id(p) in gammas:
                assert group["weight_decay"] == 0.0
            elif id(p) in ours:
                decays.add(group["weight_decay"] > 0)
    assert decays == {True, False}, "convolutions of blocks decay, their norms and biases do not"


def test_without_blocks_the_optimizer_is_ultralytics_own(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    groups = trained(tiny_base, tiny_data, tmp_path, 20.0, {}).optimizer.param_groups
    assert {g["initial_lr"] for g in groups} == {0.001}


def test_gamma_moves_and_the_score_says_how_far(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    model, score = short(build(tiny_base, BOTH), tiny_data, tmp_path, epochs=2, block_lr_factor=20.0)
    assert len(score.gamma) == 2
    for row, mean in score.gamma.items():
        found = model.model[int(row)].gamma.detach().abs().mean()
        assert mean == pytest.approx(float(found))
        assert mean > 0


def test_score_says_what_was_done(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    model, score = short(build(tiny_base), tiny_data, tmp_path, epochs=2, seed=3)
    assert (score.split, score.head, score.epochs, score.seed, score.images_seen) == (
        "val",
        "one2many",
        2,
        3,
        16,
    )
    assert (score.metric, score.second_metric) == ("mAP50-95", "mAP50")
    assert 0 <= score.value <= score.second <= 1
    assert 0 <= score.nms_free <= score.nms_free_second <= 1
    parts = [v for k, v in score.seconds.items() if k != "total"]
    assert sum(parts) == pytest.approx(score.seconds["total"])
    assert all(v >= 0 for v in parts)
    assert next(model.parameters()).dtype == torch.float32


def test_a_model_without_a_free_head_has_no_score_of_it(tmp_path: Path, tiny_base: Path, tiny_data: Path) -> None:
    v8 = tmp_path / "tiny8.yaml"
    v8.write_text(tiny_base.read_text().replace("v10Detect", "Detect"))
    _, score = short(build(v8), tiny_data, tmp_path)
    assert score.nms_free is None
    assert score.nms_free_second is None
    assert score.head == "single"


def test_nothing_but_the_arguments_is_left_on_disk(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    short(build(tiny_base), tiny_data, tmp_path)
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {"log.txt", ".train/args.yaml"}


def test_training_says_nothing_and_leaves_the_logger_as_it_was(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from ultralytics.utils import LOGGER

    before = LOGGER.handlers[:], LOGGER.propagate
    short(build(tiny_base), tiny_data, tmp_path)
    assert (LOGGER.handlers, LOGGER.propagate) == before
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "Epoch" in (tmp_path / "log.txt").read_text()


def test_threads_are_as_many_as_before(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    short(build(tiny_base), tiny_data, tmp_path)
    assert torch.get_num_threads() == before


def test_the_check_sees_the_model_before_its_first_step(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    model = build(tiny_base, BOTH)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    seen: list[dict[str, torch.Tensor]] = []
    end, _ = short(
        model,
        tiny_data,
        tmp_path,
        check=lambda m: seen.append({k: v.clone() for k, v in m.state_dict().items()}),
    )
    assert len(seen) == 1
    assert all(torch.equal(v, start[k]) for k, v in seen[0].items())
    assert any(not torch.equal(v, start[k]) for k, v in end.state_dict().items())


def test_a_failing_check_fails_the_training(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    def refuse(model: object) -> None:
        raise ValueError("tensor in the wrong layer")

    with pytest.raises(train.TrainingFailed, match="tensor in the wrong layer"):
        short(build(tiny_base), tiny_data, tmp_path, check=refuse)


def test_a_loss_that_is_not_finite_is_a_failure(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    model = build(tiny_base)
    model.model[4].register_forward_hook(lambda m, x, y: y * float("nan"))
    with pytest.raises(train.TrainingFailed, match="not finite"):
        short(model, tiny_data, tmp_path)


def test_a_loss_that_is_not_finite_in_an_early_batch_is_a_failure(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """The batches after it are finite until the next step of the optimizer, which then makes every weight NaN."""
    model = build(tiny_base)
    calls: list[int] = []

    def once(m: torch.nn.Module, x: object, y: torch.Tensor) -> torch.Tensor:
        calls.extend([1] * m.training)
        return y * float("nan") if m.training and len(calls) == 1 else y

    model.model[4].register_forward_hook(once)
    with pytest.raises(train.TrainingFailed, match=r"not finite|no finite"):
        short(model, tiny_data, tmp_path, epochs=3)


def test_out_of_memory_is_a_failure_and_never_another_batch(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    model = build(tiny_base)
    sizes: list[int] = []

    def full(m: object, x: tuple[torch.Tensor], y: torch.Tensor) -> None:
        if m.training:
            sizes.append(len(x[0]))
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")

    model.model[4].register_forward_hook(full)
    with pytest.raises(train.TrainingFailed, match="out of memory") as e:
        short(model, tiny_data, tmp_path)
    assert sizes == [4]
    if "batch=" in str(e.value):
        assert "batch=4" in str(e.value)


def test_any_other_error_is_a_failure_with_its_reason(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    model = build(tiny_base)

    def broken(m: object, x: object, y: object) -> None:
        raise RuntimeError("shapes do not fit")

    model.model[4].register_forward_hook(broken)
    with pytest.raises(train.TrainingFailed, match="RuntimeError: shapes do not fit"):
        short(model, tiny_data, tmp_path)
    _, score = short(build(tiny_base), tiny_data, tmp_path)
    assert score.images_seen == 8, "the next training is as if nothing had been"
