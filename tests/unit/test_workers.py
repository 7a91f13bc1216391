"""Several workers: locks, how many, what each may take, and a distinct placement for each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch
from conftest import REPO, run_python, write_recipe
from optuna.trial import TrialState
from ultralytics.nn.tasks import yaml_model_load

from nas import children, probe, recipe, sampler, setting, slots, storage, turn
from nas import study as studies
from nas.locks import FileLock

HOLD = "import sys, time; from pathlib import Path; from nas.locks import FileLock\n"


def test_a_lock_is_one_processs_at_a_time_and_free_when_its_holder_dies(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lock"
    code = HOLD + "FileLock(Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(60)"
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, env=env)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    taker = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, env=env)
    time.sleep(1.5)
    assert taker.poll() is None
    holder.kill()
    assert taker.stdout is not None and taker.stdout.readline() == b"held\n"
    taker.kill()
    for process in (holder, taker):
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_lock_held_twice_would_wait_for_itself(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    lock.release()
    with lock:
        assert lock.held
        with pytest.raises(RuntimeError, match="held by this process"):
            lock.acquire()
    assert not lock.held
    lock.acquire()
    lock.release()


@pytest.mark.parametrize(
    ("device", "cores", "todo", "expected"),
    [
        ("cpu", 1, 1000, [1]),
        ("cpu", 2, 1000, [1, 2]),
        ("cpu", 6, 1000, [1, 2, 4, 6]),
        ("cpu", 16, 1000, [1, 2, 4, 8, 16]),
        ("cpu", 16, 30, [1, 2, 4]),
        ("cpu", 16, 4, []),
        ("cuda", 2, 1000, [1, 2, 4, 8, 16]),
        ("cuda", 16, 45, [1, 2, 4, 8]),
        ("mps", 8, 1000, [1]),
    ],
)
def test_numbers_that_are_tried(device: str, cores: int, todo: int, expected: list[int], monkeypatch) -> None:
    monkeypatch.setattr(slots, "threads", lambda: cores)
    assert slots.candidates(device, todo) == expected


def test_a_step_up_must_pay_and_fit() -> None:
    assert slots.best({1: 97.0, 2: 142.0}, 99) == 2
    assert slots.best({1: 97.0, 2: 142.0}, 1) == 1
    assert slots.best({1: 100.0, 2: 105.0}, 99) == 1
    assert slots.best({1: 100.0, 2: 105.0, 4: 150.0, 8: 160.0}, 99) == 4
    assert slots.best({1: 100.0}, 99) == 1


def test_every_process_has_its_share_of_the_threads(monkeypatch) -> None:
    monkeypatch.setattr(slots, "threads", lambda: 6)
    assert [slots.share(n) for n in (1, 2, 4, 6, 12)] == [6, 3, 1, 1, 1]


@pytest.fixture
def prepared(tmp_path: Path, tiny_data: Path, tiny_base: Path, tiny_space: Path) -> setting.Setting:
    """A setting of the tiny detector with a folder of its own."""
    file = write_recipe(
        tmp_path / "r.yaml", data=tiny_data, base=tiny_base, space=tiny_space, trials=40, name="some", slots="auto",
        output=tmp_path / "runs",
    )  # fmt: skip
    found = setting.prepare(recipe.read(file, {}))
    found.folder.mkdir(parents=True)
    return found


def with_slots(found: setting.Setting, value: Any) -> setting.Setting:
    return replace(found, recipe=found.recipe.model_copy(update={"slots": value}))


def test_what_was_asked_for_is_taken_but_no_more_than_there_is_to_do(prepared: setting.Setting) -> None:
    said: list[str] = []
    assert slots.choose(with_slots(prepared, 3), 40, said.append) == 3
    assert slots.choose(with_slots(prepared, 8), 2, said.append) == 2
    assert slots.choose(with_slots(prepared, 1), 40, said.append) == 1
    assert len(said) == 2
    assert all("as asked" in line for line in said)


def test_a_short_search_is_not_measured(prepared: setting.Setting, monkeypatch) -> None:
    monkeypatch.setattr(slots, "threads", lambda: 4)
    monkeypatch.setattr(slots, "measure", lambda *a: pytest.fail("measured"))
    assert slots.choose(prepared, slots.WORTH_MEASURING, print) == 1
    monkeypatch.setattr(slots, "threads", lambda: 1)
    assert slots.choose(prepared, 1000, print) == 1


def test_what_was_measured_is_kept_and_held_against_the_memory_of_now(prepared: setting.Setting, monkeypatch) -> None:
    calls, said = [], []
    monkeypatch.setattr(slots, "threads", lambda: 4)

    def measure(job: Any, device: Any, tried: list[int]) -> slots.Speeds:
        calls.append(tried)
        return slots.Speeds({1: 100.0, 2: 150.0, 4: 200.0}, 2**20)

    monkeypatch.setattr(slots, "measure", measure)
    assert slots.choose(prepared, 40, said.append) == 4
    assert "1: 100, 2: 150, 4: 200 (measured in" in said[-1]
    assert slots.choose(prepared, 40, said.append) == 4
    assert calls == [[1, 2, 4]]
    assert "measured before" in said[-1]
    monkeypatch.setattr(slots, "free_memory", lambda device=None: 3 * 2**20)
    assert slots.choose(prepared, 40, said.append) == 2
    assert "memory is free for 2" in said[-1]


def test_a_damaged_measurement_is_made_again(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    for text in ("", "[]", "{}", '{"images": [], "memory": 1}', '{"images": {"a": 1}, "memory": 1}'):
        file.write_text(text)
        assert slots.read(file) is None
    slots.write(file, slots.Speeds({1: 2.5}, 7))
    assert slots.read(file) == slots.Speeds({1: 2.5}, 7)


def test_processes_are_really_measured(prepared: setting.Setting, monkeypatch) -> None:
    monkeypatch.setattr(slots, "SECONDS", 0.2)
    found = slots.measure(slots.probe_job(prepared), torch.device("cpu"), [1, 2])
    assert found is not None
    assert set(found.images) == {1, 2}
    assert all(speed > 0 for speed in found.images.values())
    assert 50 * 2**20 < found.memory < 4 * 2**30


def test_a_probe_that_cannot_train_gives_no_number(prepared: setting.Setting, monkeypatch) -> None:
    job = slots.probe_job(prepared)
    job["yaml"] = job["yaml"] | {"head": [[-1, 1, "Nothing", []]]}
    assert slots.measure(job, torch.device("cpu"), [1]) is None


@pytest.mark.parametrize(
    "name", ["tiny", "yolov8n.yaml", "yolo11n-seg.yaml", "yolo11n-pose.yaml", "yolo11n-obb.yaml", "yolo11n-cls.yaml"]
)
def test_a_step_of_every_task(name: str, tiny_base: Path) -> None:
    text = yaml_model_load(tiny_base if name == "tiny" else name)
    job = {
        "yaml": text, "classes": 3, "channels": 3, "imgsz": 64, "batch": 2, "device": "cpu", "bf16": False,
        "modules": [],
    }  # fmt: skip
    images, seconds = probe.train(probe.make_step(job | {"yaml": text | {"nc": 3}}), 0.0, 2)
    assert images == 2 * probe.ENOUGH
    assert seconds > 0


def test_a_child_hears_answers_and_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "echoing.py").write_text(
        "from nas.children import Parent\n"
        "p = Parent()\nprint('not for the parent')\n"
        "while True:\n    p.tell(heard=p.hear())\n"
    )
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\nfrom nas.children import Child\n"
        "c = Child('echoing', {'a': 1}, 1, Path(sys.argv[1]) / 'log')\n"
        "print(c.hear(60), flush=True); c.tell({'b': 'ü'}); print(c.hear(60), c.pid, flush=True)\n"
        "import os; os._exit(0)\n"
    )
    first, second = run_python(code, tmp_path).splitlines()
    assert first == "{'heard': {'a': 1}}"
    assert second.startswith("{'heard': {'b': 'ü'}}")
    end = time.monotonic() + 20
    pid = int(second.split()[-1])
    while studies._alive(pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not studies._alive(pid)
    assert (tmp_path / "log").read_text() == "not for the parent\n"


def test_stop_ends_a_child_that_will_not(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "stubborn.py").write_text(
        "import signal, time\nfrom nas.children import Parent\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nParent().tell(ready=True)\ntime.sleep(60)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    child = children.Child("stubborn", {}, 1)
    assert child.hear(60) == {"ready": True}
    children.stop([child], patience=0.5)
    assert not child.running
    assert child.how == "killed by SIGKILL"


def test_a_child_that_falls_silent_is_killed_whatever_its_parent_waits_for(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "speaking.py").write_text(
        "import time\nfrom nas.children import Parent\np = Parent()\n"
        "while True:\n    p.tell(alive=True)\n    time.sleep(0.1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    child = children.Child("speaking", {}, 1, silence=60.0)
    assert child.hear(60) == {"alive": True}
    watch = threading.Thread(target=child._watch, args=(2.0,))
    watch.start()
    watch.join(4.0)
    assert child.running and not child.silent
    os.kill(child.pid, signal.SIGSTOP)
    watch.join(30.0)
    assert child.silent and child.process.wait() == -signal.SIGKILL
    children.stop([child])


def opened(found: setting.Setting) -> optuna.Study:
    return studies.open_study(found, storage.open_storage(studies.storage_url(found)))


def test_a_trial_is_taken_only_while_finished_and_running_are_fewer_than_asked(prepared: setting.Setting) -> None:
    few = replace(prepared, recipe=prepared.recipe.model_copy(update={"trials": 2}))
    study = opened(few)
    assert turn.what_next(study, few) == "take"
    first, second = study.ask(), study.ask()
    assert turn.what_next(study, few) == "wait"
    study.tell(first, [0.1, 1.0])
    assert turn.what_next(study, few) == "wait"
    study.tell(second, state=TrialState.FAIL)
    assert turn.what_next(study, few) == "take"
    study.tell(study.ask(), [0.1, 1.0])
    assert turn.what_next(study, few) == "done"


def test_what_a_dead_worker_was_training_is_taken_by_another(prepared: setting.Setting) -> None:
    few = replace(prepared, recipe=prepared.recipe.model_copy(update={"trials": 2}))
    study = opened(few)
    study.tell(study.ask(), [0.1, 1.0])
    lost = study.ask()
    params = {site: lost.suggest_categorical(site, few.space.choices(site)) for site, _ in few.space.sites}
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lost.set_user_attr("pid", dead.pid)
    assert turn.what_next(study, few) == "take"
    assert study.trials[lost.number].state == TrialState.FAIL
    assert [t.system_attrs["fixed_params"] for t in study.trials if t.state == TrialState.WAITING] == [params]


def test_a_trial_that_never_said_whose_it_is_is_closed_after_a_while(prepared: setting.Setting, monkeypatch) -> None:
    study = opened(prepared)
    study._storage.create_new_trial(study._study_id)
    studies.revive(study, prepared)
    assert study.trials[-1].state == TrialState.RUNNING
    monkeypatch.setattr(studies, "UNOWNED", studies.timedelta(0))
    studies.revive(study, prepared)
    assert study.trials[-1].state == TrialState.FAIL


@pytest.mark.parametrize("name", sorted(sampler.SAMPLERS))
def test_proposals_made_while_others_run_differ_from_theirs(name: str, prepared: setting.Setting) -> None:
    """Trials that are asked for and never told: only the claim says what they will train."""
    study = opened(replace(prepared, recipe=prepared.recipe.model_copy(update={"sampler": name, "startup": 0})))
    space = prepared.space
    for _ in range(10):
        trial = study.ask()
        params = {site: trial.suggest_categorical(site, space.choices(site)) for site, _ in space.sites}
        study.tell(trial, [0.01 * len(space.placement(params)), 1.0 + 0.1 * trial.number])
    running = [study.ask() for _ in range(space.size - 10)]
    site = space.sites[0][0]
    for trial in running:  # a proposal is made for the first site that is asked for
        trial.suggest_categorical(site, space.choices(site))
    claims = [t.system_attrs[sampler.CLAIM] for t in study.trials if t.state == TrialState.RUNNING]
    assert len({space.placement(c).id for c in claims}) == len(claims) == len(running)
    assert len(set(sampler.tried(study, space))) == space.size
    with pytest.raises(sampler.Exhausted):
        study.ask().suggest_categorical(site, space.choices(site))


def test_the_lock_is_given_back_as_soon_as_the_trial_is_seen(prepared: setting.Setting) -> None:
    study = opened(prepared)
    lock = turn.lock_of(study)
    lock.acquire()
    study.ask()
    assert not lock.held
    owner = study.trials[0].user_attrs
    assert owner["pid"] == os.getpid()


def test_milliseconds_under_load_are_told_by_the_ratio(prepared: setting.Setting) -> None:
    from nas import objective

    base = prepared.base_cost.latency
    assert base is not None
    busy = replace(base, ms=50.0, ratio=1.5)
    assert objective.alone_ms(prepared, busy) == 50.0
    assert objective.alone_ms(replace(prepared, workers=2), busy) == pytest.approx(1.5 * base.ms)
    assert objective.alone_ms(prepared, None) is None


@pytest.mark.parametrize("value", [-1, 2.5, "two", True, "", 10_000, [2]])
def test_a_number_of_workers_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(
        recipe.RecipeError, match="--workers: expected auto, a number of processes from 1 to 256, or 0 to train"
    ):
        recipe.read(None, {"slots": value})


def test_workers_are_no_part_of_a_studys_identity() -> None:
    assert recipe.read(None, {"slots": "2"}).slots == 2
    assert recipe.read(None, {}).slots == "auto"
    assert recipe.read(None, {"slots": 2}).identity() == recipe.read(None, {"slots": "auto"}).identity()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite://", True),
        ("sqlite:///:memory:", True),
        ("sqlite:///x.db", False),
        ("postgresql://me@host/x", False),
        (None, False),
    ],
)
def test_a_study_in_memory_has_one_worker(url: str | None, expected: bool, prepared: setting.Setting) -> None:
    from nas import workers

    found = replace(prepared, recipe=prepared.recipe.model_copy(update={"storage": url, "slots": 2}))
    assert workers.in_memory(found) is expected


def test_a_worker_gets_the_recipe_and_the_device_in_plain_json(prepared: setting.Setting) -> None:
    from nas import workers

    told = json.loads(json.dumps(workers.job(prepared, 2, 1)))
    again = recipe.Recipe.model_validate(told["recipe"])
    assert again.train["device"] == "cpu"
    assert again.identity() == prepared.recipe.identity()
    assert (told["workers"], told["index"]) == (2, 1)
    fake = SimpleNamespace(cards=("2", "3"), recipe=prepared.recipe, base_cost=prepared.base_cost)
    jobs = [workers.job(fake, 4, index) for index in range(4)]  # type: ignore[arg-type]
    assert [job["recipe"]["train"]["device"] for job in jobs] == ["2", "3", "2", "3"], "spread over the cards"
    assert {job["workers"] for job in jobs} == {2}, "on each card"
