"""`python -m nas doctor`: what it finds in a sound environment, and in each kind of a sick one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import REPO
from environment import Environment, make_environment

import yolo_attention_nas_startup as startup
from nas import doctor


def table(said: str) -> dict[str, tuple[str, str]]:
    """Check -> (state, text), lines of a cell joined."""
    rows: dict[str, tuple[str, str]] = {}
    name = ""
    for line in said.splitlines():
        cells = [cell.strip() for cell in line.split("│")[1:-1]]
        if len(cells) != 3:
            continue
        name = cells[0] or name
        state, text = rows.get(name, (cells[1], ""))
        rows[name] = (state, f"{text} {cells[2]}".strip())
    return rows


def test_a_sound_environment(installed: Environment) -> None:
    path = f"{installed.python.parent}{os.pathsep}{os.environ['PATH']}"
    installed.yolo("version")
    (installed.python.parent / "yolo").chmod(0o755)
    said = installed.run("-m", "nas", "doctor", PATH=path, COLUMNS="80")
    rows = table(said)
    assert {name: row for name, row in rows.items() if row[0] != "ok" and name != "thop"} == {}
    assert rows["row Attend"][1].startswith("built by the yolo command")
    assert max(map(len, said.splitlines())) <= 80


def test_turned_off(installed: Environment) -> None:
    rows = table(installed.run("-m", "nas", "doctor", YOLO_ATTENTION_NAS="0"))
    assert rows["switch"][0] == rows["row Attend"][0] == "warning"
    assert "unset YOLO_ATTENTION_NAS" in rows["switch"][1]


def test_not_installed(tmp_path: Path) -> None:
    bare = make_environment(tmp_path / "venv")
    rows = table(bare.run("-m", "nas", "doctor", code=1, PYTHONPATH=str(REPO)))
    assert rows["start-up file"][0] == rows["row Attend"][0] == "fault"
    assert "install the project" in rows["start-up file"][1] and "KeyError: 'Attend'" in rows["row Attend"][1]


def test_a_stranger_in_the_folder(installed: Environment, tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "__init__.py").write_text("raise SystemExit('imported unasked')")
    rows = table(installed.run("-m", "nas", "doctor", cwd=tmp_path, code=1))
    assert rows["modules"][0] == "fault" and "rename" in rows["modules"][1]
    assert rows["row Attend"][0] == "ok"  # `yolo` does not look into the folder


def test_a_folder_without_init_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modules").mkdir()
    monkeypatch.chdir(tmp_path)
    (found,) = doctor.packages()
    assert found.state == "warning" and "modules/" in found.seen
    monkeypatch.chdir(REPO)
    assert [check.state for check in doctor.packages()] == ["ok"]


def test_the_last_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert doctor.last_fault().state == "ok"
    try:
        raise RuntimeError("no such luck")
    except RuntimeError:
        startup.remember()
    found = doctor.last_fault()
    assert found.state == "warning" and "no such luck" in found.seen and startup.record() in found.mend


@pytest.mark.parametrize(
    ("right", "other", "state"), [("2", "", "ok"), ("2", "0.1", "warning"), ("", "0.1", "fault"), ("", "", "fault")]
)
def test_two_distributions_called_thop(right: str, other: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed", {"ultralytics-thop": right, "thop": other}.get)
    assert doctor.thop().state == state


@pytest.mark.parametrize(
    ("version", "state"), [("8.4.190", "ok"), ("8.3.0", "fault"), ("8.5.0", "fault"), ("", "fault")]
)
def test_versions_are_held_against_the_pins(version: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed", lambda name: version if name == "ultralytics" else "99+cu130")
    found = {check.name: check for check in doctor.versions()}
    assert found["ultralytics"].state == state and (
        state == "ok" or "pip install 'ultralytics" in found["ultralytics"].mend
    )
    assert found["torch"].state == "ok" and found["optuna"].state == "fault"


def test_a_start_up_file_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.site, "getsitepackages", lambda: [str(tmp_path)])
    monkeypatch.setattr(doctor.site, "ENABLE_USER_SITE", False)
    line, module = tmp_path / "yolo_attention_nas_startup.pth", tmp_path / "yolo_attention_nas_startup.py"
    assert doctor.startup_file().state == "fault"
    line.write_text("import yolo_attention_nas_startup\n")
    assert doctor.startup_file().state == "fault"
    module.write_text("older")
    assert doctor.startup_file().state == "warning" and "install the project again" in doctor.startup_file().mend
    module.write_bytes(Path(startup.__file__).read_bytes())
    assert doctor.startup_file().state == "ok"
