"""studies/security.md, sentence by sentence: what a file, a name or a URL can do to whoever runs a command."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from conftest import REPO, Result, Searched, write_recipe
from ultralytics.nn.tasks import yaml_model_load

import nas
from modules import registry
from nas import board_files, dashboard, export, plug_ins, setting, trust, weights
from nas.errors import InputError, WeightError

sys.path.insert(0, str(REPO / "tests" / "unit"))
import hostile

Cli = Callable[..., Result]
URL, PASSWORD = "postgresql+psycopg://me:hunter2@127.0.0.1:9/nas", "hunter2"
TRAIN = ("imgsz=64", "epochs=1", "batch=4", "workers=0", "device=cpu", "plots=False")
DEPLOY = ("--imgsz", 64, "--device", "cpu", "--format", "torchscript")
BLOCK = '''
from pathlib import Path

from torch import nn

from modules import attention

Path({mark!r}).touch()


@attention("{name}", paper="none", family="channel")
class Own(nn.Module):
    """A block of a test."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return self.body(x)
'''


@pytest.fixture(autouse=True)
def _nobody_is_trusted() -> Iterator[None]:
    os.environ.pop(trust.SWITCH, None)
    yield
    os.environ.pop(trust.SWITCH, None)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What a test registers and imports is forgotten."""
    before, names = set(sys.modules), dict(registry._SPECS)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("their_"):
            del sys.modules[name]
    registry._SPECS.clear()
    registry._SPECS.update(names)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What is there if something ran."""
    return tmp_path / "it-ran"


def tiny(base: Path) -> Any:
    return weights.build(yaml_model_load(base), {0: "red", 1: "green"})


@pytest.fixture
def evil(tiny_base: Path, tmp_path: Path, mark: Path) -> Path:
    """A checkpoint that trains as well as any, and runs code as it is read."""
    return hostile.write(tmp_path / "evil.pt", "one in the training arguments", tiny(tiny_base), mark)


@pytest.fixture
def good(tiny_base: Path, tmp_path: Path) -> Path:
    export.save(tmp_path / "good.pt", tiny(tiny_base), {"imgsz": 64})
    return tmp_path / "good.pt"


@pytest.fixture
def evil_yaml(tiny_base: Path, tmp_path: Path, mark: Path) -> Path:
    """A model's YAML whose activation runs code."""
    file = tmp_path / "evil.yaml"
    model = yaml.safe_load(tiny_base.read_text()) | {"activation": hostile.CODE.format(str(mark))}
    file.write_text(yaml.safe_dump(model))
    return file


def refused(result: Result, mark: Path, *words: str) -> None:
    """Exit status 2, one message with the words and no traceback, and nothing ran."""
    assert result.code == 2, result.text
    assert not mark.exists(), "it ran"
    assert "Traceback" not in result.text
    for word in words:
        assert word in result.text, result.text


# Checkpoints


def places(evil: Path, good: Path, data: Path, base: Path, out: Path) -> dict[str, list[Any]]:
    """Every way in of a checkpoint, by the command."""
    recipe = write_recipe(out / "r.yaml", data=data, base=base, trials=1, output=out / "runs", weights=str(evil))
    return {
        "search": ["search", "--recipe", recipe],
        "correlate": ["correlate", "--recipe", recipe, "--placements", 8],
        "graft": ["graft", evil, "neck.p3=eca", "-o", out / "o.pt"],
        "graft to a YAML": ["graft", evil, "neck.p3=eca", "-o", out / "o.yaml"],
        "show": ["show", "neck.p3=eca", "--base", evil],
        "cost": ["cost", "neck.p3=eca", "--base", evil, "--imgsz", 64, "--device", "cpu", "--runs", 3],
        "deploy": ["deploy", evil, "--data", data, *DEPLOY],
        "deploy --base": ["deploy", good, "--base", evil, "--data", data, *DEPLOY],
        "train": ["train", f"model={evil}", f"data={data}", *TRAIN],
        "train pretrained": ["train", f"model={base}", f"pretrained={evil}", f"data={data}", *TRAIN],
        "train distill_model": ["train", f"model={good}", f"distill_model={evil}", f"data={data}", *TRAIN],
        "train resume": ["train", f"resume={evil}", f"data={data}"],
    }


WAYS = (
    "search", "correlate", "graft", "graft to a YAML", "show", "cost", "deploy", "deploy --base", "train",
    "train pretrained", "train distill_model", "train resume",
)  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_checkpoint_with_code_is_refused_wherever_it_comes_in(
    way: str, evil: Path, good: Path, tiny_data: Path, tiny_base: Path, tmp_path: Path, mark: Path, cli: Cli
) -> None:
    words = places(evil, good, tiny_data, tiny_base, tmp_path)[way]
    refused(cli(*words), mark, "evil.pt: more than weights: it names posix.system", "--trust")


@pytest.mark.parametrize("way", ["graft", "show"])
def test_trust_is_for_one_command_and_reads_it(
    way: str, evil: Path, good: Path, tiny_data: Path, tiny_base: Path, tmp_path: Path, mark: Path, cli: Cli
) -> None:
    words = places(evil, good, tiny_data, tiny_base, tmp_path)[way]
    assert cli(*words, "--trust").code == 0
    assert mark.exists(), "so the tests above can fail"


def test_trust_in_python_is_for_one_call(evil: Path, tmp_path: Path, mark: Path) -> None:
    with pytest.raises(WeightError, match="more than weights"):
        nas.graft(evil, "neck.p3=eca", tmp_path / "o.pt")
    with pytest.raises(InputError, match="more than weights"):
        nas.search(data="demo", weights=str(evil), name="x", output=str(tmp_path))
    assert not mark.exists()
    nas.graft(evil, "neck.p3=eca", tmp_path / "o.pt", trust=True)
    assert mark.exists() and not trust.given()


def test_a_recipe_cannot_carry_trust(tiny_data: Path, tmp_path: Path, cli: Cli) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", data=tiny_data, trust=True)
    result = cli("search", "--recipe", recipe)
    assert result.code == 2 and "trust: no such field" in result.text


def test_processes_that_are_started_inherit_trust() -> None:
    code = "from nas import trust; print(trust.given())"
    for given in (True, False):
        with trust.granted(given):
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO, check=True)
        assert done.stdout.strip() == str(given)


def test_weights_of_a_study_from_somebody_else_are_looked_at(
    copied: Searched, tiny_base: Path, tmp_path: Path, mark: Path, cli: Cli
) -> None:
    """`export --bundle` reads the weights that lie in a study's folder."""
    number = next(t.number for t in export.finished(copied.study) if t.user_attrs["placement"])
    file = export.checkpoint(copied.folder, number)
    hostile.write(file, "one in the training arguments", tiny(tiny_base), mark)
    refused(cli("export", copied.folder, "--pick", number, "--bundle", tmp_path / "b"), mark, "more than weights")


def test_weights_for_another_base_are_looked_at(
    copied: Searched, evil: Path, tmp_path: Path, mark: Path, cli: Cli
) -> None:
    refused(cli("export", copied.folder, "--weights", evil, "-o", tmp_path), mark, "more than weights")


@pytest.mark.parametrize("key", ["model", "pretrained", "distill_model"])
def test_a_training_does_not_fetch_a_checkpoint_unseen(
    key: str, good: Path, tiny_data: Path, mark: Path, cli: Cli
) -> None:
    for address in ("https://example.org/x.pt", "https://example.org/x", "ul://me/models/x"):
        words = {"model": str(good), key: address}
        result = cli("train", *(f"{k}={v}" for k, v in words.items()), f"data={tiny_data}", *TRAIN)
        assert result.code == 2 and ("fetch it first" in result.text or "no such file" in result.text), result.text


def test_a_resumed_training_does_not_write_where_its_checkpoint_says(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, mark: Path, cli: Cli
) -> None:
    import torch

    file = tmp_path / "run" / "weights" / "last.pt"
    file.parent.mkdir(parents=True)
    args = {"save_dir": str(tmp_path / "elsewhere"), "data": str(tiny_data)}
    torch.save(hostile.content(tiny(tiny_base)) | {"train_args": args}, file)
    refused(cli("train", f"resume={file}", f"data={tiny_data}"), mark, f"save_dir={tmp_path / 'run'}")
    assert not (tmp_path / "elsewhere").exists()


# YAML


@pytest.mark.parametrize("way", ["search", "show", "graft", "train", "export"])
def test_an_activation_with_code_is_refused_wherever_a_yaml_comes_in(
    way: str, copied: Searched, evil_yaml: Path, tiny_data: Path, tmp_path: Path, mark: Path, cli: Cli
) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", data=tiny_data, base=evil_yaml, trials=1, output=tmp_path / "runs")
    words = {
        "search": ["search", "--recipe", recipe],
        "show": ["show", "neck.p3=eca", "--base", evil_yaml],
        "graft": ["graft", evil_yaml, "neck.p3=eca", "-o", tmp_path / "o.yaml"],
        "train": ["train", f"model={evil_yaml}", f"data={tiny_data}", *TRAIN],
        "export": ["export", copied.folder, "--base", evil_yaml, "-o", tmp_path],
    }[way]
    refused(cli(*words), mark, "evil.yaml", "is run as Python code", "--trust")


def test_a_studys_own_yaml_is_looked_at(copied: Searched, tmp_path: Path, mark: Path, cli: Cli) -> None:
    study = copied.study
    study.set_user_attr("base_yaml", study.user_attrs["base_yaml"] | {"activation": hostile.CODE.format(str(mark))})
    refused(cli("export", copied.folder, "-o", tmp_path / "o"), mark, "is run as Python code")


@pytest.mark.parametrize("what", ["recipe", "space", "data", "base"])
def test_a_yaml_that_makes_objects_runs_nothing(
    what: str, tiny_data: Path, tiny_base: Path, tiny_space: Path, tmp_path: Path, mark: Path, cli: Cli
) -> None:
    file = tmp_path / "evil.yaml"
    file.write_text(f"!!python/object/apply:os.system [touch '{mark}']\n")
    good = {"data": tiny_data, "base": tiny_base, "space": tiny_space, "trials": 1, "output": tmp_path / "runs"}
    recipe = file if what == "recipe" else write_recipe(tmp_path / "r.yaml", **good | {what: file})
    refused(cli("search", "--recipe", recipe), mark)


# Label caches


@pytest.mark.parametrize("way", ["search", "train", "deploy"])
def test_a_label_cache_with_code_is_refused(
    way: str, good: Path, own_data: Path, tiny_base: Path, tmp_path: Path, mark: Path, cli: Cli
) -> None:
    hostile.cache(own_data.parent / "labels" / "train.cache", mark)
    recipe = write_recipe(tmp_path / "r.yaml", data=own_data, base=tiny_base, trials=1, output=tmp_path / "runs")
    words = {
        "search": ["search", "--recipe", recipe],
        "train": ["train", f"model={tiny_base}", f"data={own_data}", *TRAIN],
        "deploy": ["deploy", good, "--data", own_data, *DEPLOY],
    }[way]
    refused(cli(*words), mark, "train.cache names posix.system", "Delete it")


# Plug-ins


def test_a_plug_in_is_shown_before_it_runs(
    forgotten: None, tiny_data: Path, tiny_base: Path, tmp_path: Path, mark: Path, cli: Cli
) -> None:
    file = tmp_path / "their_own.py"
    file.write_text("raise RuntimeError('it runs now')")
    line = f"plug-in: {file}, sha256 {setting._digest(file)}..."
    recipe = write_recipe(tmp_path / "r.yaml", data=tiny_data, base=tiny_base, modules=[str(file)])
    for words in (
        ["search", "--recipe", recipe], ["correlate", "--recipe", recipe],
        ["show", "--modules", file], ["modules", "--modules", file], ["modules", "check", file],
        ["train", f"model={tiny_base}", "--modules", file], ["graft", "x.pt", "neck.p3=eca", "--modules", file],
        ["deploy", "x.pt", "--data", tiny_data, "--modules", file],
    ):  # fmt: skip
        result = cli(*words)
        assert result.code == 2 and "it runs now" in result.err, result.text
        assert line in result.out.replace("\n", ""), result.text


def test_a_study_makes_nobody_run_the_file_that_it_names(
    forgotten: None, copied: Searched, tmp_path: Path, mark: Path, cli: Cli
) -> None:
    file = copied.folder / "their_block.py"
    file.write_text(BLOCK.format(mark=str(mark), name="their_block"))
    study = copied.study
    study.set_user_attr("recipe", study.user_attrs["recipe"] | {"modules": [str(file)]})
    study.set_user_attr("identity", study.user_attrs["identity"] | {"modules": [setting._digest(file)]})
    refused(cli("finalists", copied.folder), mark, "nobody has named it on this machine", "--trust")
    refused(cli("export", copied.folder, "--bundle", tmp_path / "b"), mark, "nobody has named it")
    refused(cli("export", copied.folder, "--base", "yolov10s.yaml", "-o", tmp_path), mark, "nobody has named it")
    for words in (["status", copied.folder], ["report", copied.folder], ["export", copied.folder, "-o", tmp_path]):
        assert cli(*words).code == 0
    dashboard.dress(study, copied.folder)
    assert not mark.exists()
    plug_ins.announce([file], lambda text: None)
    assert cli("export", copied.folder, "-o", tmp_path).code == 0
    assert mark.exists(), "so the test can fail"


def test_a_studys_plug_in_that_has_changed_is_refused(
    forgotten: None, copied: Searched, tmp_path: Path, mark: Path, cli: Cli
) -> None:
    file = tmp_path / "their_changed.py"
    file.write_text(BLOCK.format(mark=str(mark), name="their_changed"))
    study = copied.study
    study.set_user_attr("recipe", study.user_attrs["recipe"] | {"modules": [str(file)]})
    study.set_user_attr("identity", study.user_attrs["identity"] | {"modules": ["0" * 12]})
    plug_ins.announce([file], lambda text: None)
    refused(cli("finalists", copied.folder), mark, "is not the one that the study was made with")


# Names and paths


@pytest.mark.parametrize("name", ["../out", "a/b", "/etc/x", "..", "a\\b", "x" * 100])
def test_a_study_is_not_called_by_a_path(name: str, tiny_data: Path, tmp_path: Path, cli: Cli) -> None:
    result = cli("search", "--recipe", write_recipe(tmp_path / "r.yaml", data=tiny_data), "--name", name)
    assert result.code == 2 and "letters, digits" in result.text


@pytest.mark.parametrize("command", ["finalists", "report", "export", "status", "effects"])
def test_a_study_that_a_database_calls_by_a_path_is_refused(command: str, copied: Searched, cli: Cli) -> None:
    storage = f"sqlite:///{copied.folder / 'study.db'}"
    optuna.copy_study(from_study_name="first", to_study_name="../../out", from_storage=storage, to_storage=storage)
    before = sorted(copied.output.parent.parent.rglob("*"))
    result = cli(command, "../../out", "--storage", storage, "--output", copied.output)
    assert result.code == 2 and "its name is a path" in result.text, result.text
    assert sorted(copied.output.parent.parent.rglob("*")) == before


def test_ids_of_a_database_are_no_paths(copied: Searched, tmp_path: Path, cli: Cli) -> None:
    with sqlite3.connect(copied.folder / "study.db") as database:
        database.execute("UPDATE trial_user_attributes SET value_json='\"../../../out\"' WHERE key='placement_id'")
    before = sorted(tmp_path.rglob("*"))
    result = cli("export", copied.folder, "-o", tmp_path)
    assert result.code == 2 and "no name for a file" in result.text
    with pytest.raises(InputError, match="no name for a file"):
        dashboard.dress(copied.study, copied.folder)
    assert [p for p in tmp_path.rglob("*") if p not in before and "out" in p.name] == []


def test_an_artifact_that_a_database_names_is_none_of_the_machines_files(copied: Searched, tmp_path: Path) -> None:
    study, victim = copied.study, tmp_path / "precious.txt"
    victim.write_text("mine")
    meta = {"artifact_id": str(victim), "filename": "trial-1-abc.pt", "mimetype": "x", "encoding": None}
    for ident in (str(victim), "../../../precious.txt"):
        told = json.dumps(meta | {"artifact_id": ident})
        study._storage.set_study_system_attr(study._study_id, f"artifacts:{'0' * 8}-0", told)
        assert board_files.stored(study) == {k: v for k, v in board_files.stored(study).items() if "/" not in v}
        dashboard.dress(study, copied.folder)
    assert victim.read_text() == "mine"


# Passwords


def call(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A real command, in a process of its own."""
    surroundings = {**os.environ, "PYTHONPATH": str(REPO), **env}
    return subprocess.run(
        [sys.executable, "-m", "nas", *words], capture_output=True, text=True, env=surroundings, timeout=240
    )


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc here")
def test_the_list_of_processes_has_no_password(tmp_path: Path) -> None:
    code = (
        "from nas.hidden import guard, full; guard()\nimport sys\n"
        "print(open('/proc/self/cmdline').read().replace(chr(0), ' '), full(sys.argv[-1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "search", "--storage", URL],
        env={**os.environ, "PYTHONPATH": str(REPO)}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    line, _, known = done.stdout.strip().rpartition(" ")
    assert PASSWORD not in line and "me:***@127.0.0.1" in line
    assert known == URL, "it still knows where to connect"


@pytest.mark.parametrize("words", [["status", "x"], ["dashboard", "x"], ["report", "x"], ["finalists", "x"]])
def test_what_a_command_says_of_a_storage_has_no_password(words: list[str]) -> None:
    for done in (call(*words, "--storage", URL), call(*words, YOLO_ATTENTION_NAS_STORAGE=URL)):
        assert done.returncode == 2, done.stderr
        assert "cannot be used" in done.stderr, "the environment's storage was asked"
        assert PASSWORD not in done.stdout + done.stderr


def test_an_error_that_nobody_foresaw_has_no_password(tmp_path: Path) -> None:
    code = f"from nas.hidden import guard; guard()\nraise RuntimeError('connection to {URL} is lost')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(REPO)}, capture_output=True, text=True
    )
    assert done.returncode == 1 and "RuntimeError" in done.stderr and "me:***@" in done.stderr
    assert PASSWORD not in done.stderr


def test_nothing_that_a_study_writes_has_the_storages_url(
    tiny_data: Path, tiny_base: Path, tiny_space: Path, tmp_path: Path, cli: Cli
) -> None:
    """With SQLite, whose query takes a word that stands for the password."""
    storage = f"sqlite:///{tmp_path / 'all.db'}?password={PASSWORD}"
    recipe = write_recipe(
        tmp_path / "r.yaml", data=tiny_data, base=tiny_base, space=tiny_space, trials=2, name="s",
        output=tmp_path / "runs", slots=2,
    )  # fmt: skip
    result = cli("search", "--recipe", recipe, "--storage", storage)
    assert result.code == 0, result.text[-2000:]
    assert cli("report", "s", "--storage", storage, "--output", tmp_path / "runs").code == 0
    assert PASSWORD not in result.text
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert PASSWORD.encode() not in file.read_bytes(), file


# The dashboard


def test_the_dashboard_listens_on_this_machine_alone_and_warns_otherwise(
    copied: Searched, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(dashboard, "serve", lambda study, folder, host, port: asked.append(host))
    quiet = cli("dashboard", copied.folder, "--port", 18123)
    loud = cli("dashboard", copied.folder, "--port", 18123, "--host", "0.0.0.0")
    assert asked == ["127.0.0.1", "0.0.0.0"]
    assert "warning" not in quiet.text and "no login" in loud.err
    assert dashboard.is_loopback("::1") and not dashboard.is_loopback("10.0.0.1")
