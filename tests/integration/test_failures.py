"""A block that breaks costs its own trial, with its reason; the search goes on, and ends when nothing is left."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from conftest import Searched, study_in, write_recipe
from integration_support import ids
from optuna.trial import TrialState

OWN = '''
"""Blocks that break."""
import torch
from torch import nn
from modules import attention


@attention("{p}raiser", paper="none", family="broken")
class Raiser(nn.Module):
    """Raises when it is trained."""
    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        if self.training:
            raise RuntimeError("this block is broken")
        return x * self.scale.view(1, -1, 1, 1)


@attention("{p}nanny", paper="none", family="broken")
class Nanny(Raiser):
    """Gives NaN when it is trained."""
    def __init__(self, channels):
        super().__init__(channels)

    def forward(self, x):
        return x * self.scale.view(1, -1, 1, 1) * (float("nan") if self.training else 1.0)
'''


def own_blocks(folder: Path, name: str) -> Path:
    """A modules file whose blocks have names of this test's own: the registry lives as long as the process."""
    file = folder / f"{name}.py"
    file.write_text(OWN.format(p=name))
    return file


def test_broken_blocks_fail_with_their_reason_and_the_search_goes_on(
    tmp_path: Path, tiny_data: Path, tiny_base: Path, cli
) -> None:
    modules = own_blocks(tmp_path, "brokenone")
    (tmp_path / "s.yaml").write_text(
        "max_blocks: 1\nblocks: [eca, brokenoneraiser, brokenonenanny]\nsites: [neck.p3]\n"
    )
    recipe = write_recipe(
        tmp_path / "r.yaml", data=tiny_data, base=tiny_base, space=tmp_path / "s.yaml", trials=3, name="broken",
        output=tmp_path / "runs", modules=[str(modules)],
    )  # fmt: skip
    result = cli("search", "--recipe", recipe)
    study = study_in(tmp_path / "runs" / "broken")
    by_label = {t.user_attrs["label"]: t for t in study.trials if "label" in t.user_attrs}
    assert set(by_label) == {"base", "neck.p3=eca", "neck.p3=brokenoneraiser", "neck.p3=brokenonenanny"}
    assert by_label["base"].state == by_label["neck.p3=eca"].state == TrialState.COMPLETE
    raiser, nanny = by_label["neck.p3=brokenoneraiser"], by_label["neck.p3=brokenonenanny"]
    assert raiser.state == nanny.state == TrialState.FAIL
    assert "this block is broken" in raiser.user_attrs["error"]
    assert "not finite" in nanny.user_attrs["error"]
    assert raiser.values is None
    assert nanny.values is None
    assert len(ids(study)) == 2
    # two of three asked: nothing is left to try, and the command says so
    assert result.code == 0
    assert "are tried" in result.text
    assert "this block is broken" in result.text
    assert "Traceback" not in result.text
    frame = pd.read_csv(tmp_path / "runs" / "broken" / "trials.csv").set_index("placement")
    assert "this block is broken" in frame.loc["neck.p3=brokenoneraiser", "reason"]
    assert frame.loc["neck.p3=brokenoneraiser", "state"] == "fail"
    assert [t.number for t in study.trials if t.state == TrialState.RUNNING] == []


def test_when_trial_after_trial_fails_the_search_stops(tmp_path: Path, tiny_data: Path, tiny_base: Path, cli) -> None:
    modules = own_blocks(tmp_path, "brokentwo")
    (tmp_path / "s.yaml").write_text(
        "max_blocks: 2\nblocks: [brokentworaiser, brokentwonanny]\nsites: [neck.p3, neck.p4, backbone.p4]\n"
    )
    recipe = write_recipe(
        tmp_path / "r.yaml", data=tiny_data, base=tiny_base, space=tmp_path / "s.yaml", trials=9, name="broken",
        output=tmp_path / "runs", modules=[str(modules)],
    )  # fmt: skip
    result = cli("search", "--recipe", recipe)
    assert result.code == 1
    assert "the last 5 trials all failed" in result.text
    study = study_in(tmp_path / "runs" / "broken")
    assert [t.state for t in study.trials[:6]] == [TrialState.COMPLETE] + [TrialState.FAIL] * 5
    assert [t for t in study.trials if t.state == TrialState.RUNNING] == []


def test_limits_are_held_before_anything_is_trained(copied: Searched, cli, tmp_path: Path) -> None:
    base = copied.study.trials[0].user_attrs["cost"]
    limit = base["params"] + 200
    result = cli("search", "--recipe", copied.recipe, "--name", "limited", "--max-params", limit)
    trials = study_in(copied.output / "limited").trials
    done = [t for t in trials if t.state == TrialState.COMPLETE]
    assert result.code == 0, result.text
    assert len(done) == 4
    assert all(t.user_attrs["cost"]["params"] <= limit for t in done)
    assert [t for t in trials if t.state == TrialState.PRUNED] == [], "a limit that is known before is never proposed"
