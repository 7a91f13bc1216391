"""The look at every block before any training: its gradient is the true one, and the base is left as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import write_recipe
from torch import nn

from modules.attend import Attend
from nas import graph, proposals, recipe, scout, setting, study, warm, weights
from nas.trainer import TRAINERS
from nas.warm import overrides_of
from search_spaces import Placement


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, tiny_data: Path, tiny_base: Path, tiny_space: Path
) -> tuple[setting.Setting, warm.WarmBase]:
    root = tmp_path_factory.mktemp("scout")
    file = write_recipe(
        root / "r.yaml", data=tiny_data, base=tiny_base, space=tiny_space, name="s", output=root / "runs",
        sampler="ehvi", rungs=2, startup=None,
    )  # fmt: skip
    found = setting.prepare(recipe.read(file, {}))
    return found, warm.warm_base(found)


def test_gammas_gradient_is_that_of_the_inserted_block(prepared: tuple[Any, Any]) -> None:
    """Not computed by inserting it, and equal: the base's gradient at the site, through the block."""
    of, base = prepared
    name, (block, *_) = of.space.sites[0]
    maps, images = scout.at_sites(of, base, {name: of.sites[name].row})
    module = Attend(of.sites[name].channels, block.name, dict(block.options)).eval()
    assert module.gamma is not None
    nn.init.ones_(module.gamma)
    x, gradient = maps[name][0]
    (ours,) = torch.autograd.grad((module(x) * gradient).sum(), [module.gamma])

    graft = graph.insert(of.yaml, Placement.of({name: block}))
    model = weights.build(graft.yaml, of.dataset.names, of.dataset.channels)
    weights.transfer(base.model, model, graft.moved)
    attend = next(m for m in model.modules() if isinstance(m, Attend))
    attend.load_state_dict({**module.state_dict(), Attend.GAMMA: torch.zeros_like(module.gamma)})
    trainer = TRAINERS["detect"](model, overrides_of(of, 1), of.recipe.protocol)
    trainer.set_model_attributes()
    model.train()
    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.eval()
    batch = next(scout.batches(trainer))
    loss = model.init_criterion()(model(batch["img"]), batch)[0].sum() / len(batch["img"])
    assert attend.gamma is not None
    (theirs,) = torch.autograd.grad(loss, [attend.gamma])
    assert images == 8 and theirs.norm() > 0
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-6 * float(theirs.norm()))


def test_every_block_is_looked_at_and_the_base_is_as_before(prepared: tuple[Any, Any]) -> None:
    of, base = prepared
    before = {k: v.clone() for k, v in base.model.state_dict().items()}
    modes = [m.training for m in base.model.modules()]
    cells, images = scout.scout(of, base)
    assert [(c.site, c.block) for c in cells] == [(s, b.label) for s, blocks in of.space.sites for b in blocks]
    assert all(c.worth is not None and c.worth >= 0 and c.latency > 0 for c in cells) and images == 8
    assert any(c.worth for c in cells)
    assert all(torch.equal(before[k], v) for k, v in base.model.state_dict().items())
    assert modes == [m.training for m in base.model.modules()]
    assert scout.from_json(scout.to_json(cells)) == cells
    again, _ = scout.scout(of, base)
    assert [c.worth for c in again] == pytest.approx([c.worth for c in cells], rel=1e-3), "the same look sees the same"


def test_noise_has_no_length() -> None:
    torch.manual_seed(0)
    toward, draws = torch.ones(2000) * 0.1, [torch.randn(2000) for _ in range(10)]
    assert scout.length_of_mean([toward] * 5) == pytest.approx(float(toward.norm()), rel=1e-4)
    plain = float(torch.stack(draws).mean(0).norm())
    assert scout.length_of_mean(draws) < 0.5 * plain
    assert scout.length_of_mean([toward + d for d in draws]) == pytest.approx(float(toward.norm()), rel=0.3)
    assert scout.length_of_mean([]) == 0


def test_a_block_that_fails_or_a_wire_without_gamma_has_no_worth(
    prepared: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    of, base = prepared

    def broken(self: Any, x: Any) -> Any:
        raise AttributeError("no")

    with monkeypatch.context() as patch:
        patch.setattr(Attend, "forward", broken)
        cells, _ = scout.scout(of, base)
    assert {(c.worth, c.latency) for c in cells} == {(None, None)}, "its trial says why; the others are looked at"
    plain = replace(of, recipe=of.recipe.model_copy(update={"wire": "plain"}))
    cells, images = scout.scout(plain, base)
    assert {c.worth for c in cells} == {None} and all(c.latency for c in cells) and images == 0


def test_a_study_looks_once_and_its_sampler_knows(prepared: tuple[Any, Any]) -> None:
    import optuna

    of, base = prepared
    made = study.open_study(of, optuna.storages.InMemoryStorage())
    assert "looked at" in str(study.look_ahead(made, of, base, print))
    assert study.look_ahead(made, of, base, print) is None
    cells = {(c.site, c.block): c for c in scout.from_json(made.user_attrs[study.SCOUTED])}
    known = study.known(made, of)
    site, blocks = of.space.sites[0]
    one, two = (Placement.of({site: b}) for b in blocks[:2])
    assert known.latency(one) == pytest.approx(1 + cells[site, blocks[0].label].latency)
    sizes = [known.kin.size(site, b) for b in blocks[:2]]
    worths = [cells[site, b.label].worth or 0.0 for b in blocks[:2]]
    assert sizes[0] * worths[1] == pytest.approx(sizes[1] * worths[0]) and one != two
    assert isinstance(made.sampler.inner, proposals.EHVISampler)  # type: ignore[attr-defined]
    other = replace(of, recipe=of.recipe.model_copy(update={"sampler": "tpe"}))
    assert study.look_ahead(made, other, base, print) is None


def test_what_cannot_be_looked_at_stops_nothing(prepared: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna

    of, base = prepared
    made = study.open_study(of, optuna.storages.InMemoryStorage())

    def broken(*args: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(scout, "scout", broken)
    assert "goes on without" in str(study.look_ahead(made, of, base, print))
    assert study.SCOUTED not in made.user_attrs
    base_flops = of.base_cost.gflops
    site, (block, *_) = of.space.sites[0]
    p = Placement.of({site: block})
    assert study.known(made, of).latency(p) == pytest.approx(of.predict(p)[1] / base_flops)
