"""What is asked of a storage before anything is spent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage

from nas.preflight import check_storage
from nas.recipe import RecipeError


class Beside(InMemoryStorage):
    """A storage in which another search makes its next step whenever this one has read something."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Callable[[], object]] = []

    def step(self) -> None:
        if self.steps:
            self.steps.pop(0)()

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        found = dict(super().get_study_user_attrs(study_id))
        self.step()
        return found

    def get_all_trials(self, *args: Any, **kwargs: Any) -> list[Any]:
        found = list(super().get_all_trials(*args, **kwargs))
        self.step()
        return found


@pytest.mark.parametrize("done", range(4))
def test_a_study_that_another_search_makes_just_now_is_none_of_another_program(done: int) -> None:
    storage = Beside()
    study = optuna.create_study(study_name="both", storage=storage)
    steps = [
        lambda: study.set_user_attr("identity", {}),
        lambda: study.set_user_attr("recipe", {}),
        lambda: study.enqueue_trial({"x": 1}),
    ]
    for step in steps[:done]:
        step()
    storage.steps = steps[done:]
    check_storage(storage, "sqlite://", "both")


@pytest.mark.parametrize("what", ["attributes", "trials"])
def test_a_study_of_another_program_is_refused(what: str) -> None:
    storage = InMemoryStorage()
    study = optuna.create_study(study_name="theirs", storage=storage)
    study.set_user_attr("owner", "x") if what == "attributes" else study.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(RecipeError, match="made by another program; choose another --name"):
        check_storage(storage, "sqlite://", "theirs")
