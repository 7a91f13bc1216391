"""What clusters are given: a script for Slurm that hears signals, a manifest that holds together, real commands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from conftest import REPO

from nas import join_command, recipe, run
from nas.cli import app

SLURM = REPO / "scripts" / "cluster" / "slurm.sh"
KUBERNETES = REPO / "scripts" / "cluster" / "kubernetes.yaml"
PAGE = REPO / "studies" / "machines.md"
URL = "postgresql+psycopg://me@db/nas"
OPTION = re.compile(r"#SBATCH --[a-z][a-z-]*(=\S+)?")

PYTHON = """\
#!/usr/bin/env bash
echo "$*" >> "$SEEN"
case "$3" in
  status) [[ -e $SEEN.study ]] || exit 2 ;;
  *) trap 'echo ended >> "$SEEN"; exit 130' TERM
     touch "$SEEN.begun"
     for i in $(seq 2000); do sleep 0.05; [[ ! -e $SEEN.done ]] || exit 0; done ;;
esac
"""
SCONTROL = '#!/usr/bin/env bash\necho "scontrol $*" >> "$SEEN"\n'


def documents() -> list[dict[str, Any]]:
    """Of the manifest."""
    return list(yaml.safe_load_all(KUBERNETES.read_text(encoding="utf-8")))


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod's template, with the name of what makes it."""
    for document in documents():
        if "template" in document.get("spec", {}):
            yield document["metadata"]["name"], document["spec"]["template"]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """All of a pod, those that come first as well."""
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def found(node: Any, key: str) -> Iterator[Any]:
    """Every value of a key, however deep."""
    if isinstance(node, dict):
        for k, v in node.items():
            if k == key:
                yield v
            yield from found(v, key)
    elif isinstance(node, list):
        for one in node:
            yield from found(one, key)


def commands_of(text: str) -> list[list[str]]:
    """What stands behind each ``python -m nas`` of a shell's text, its variables filled in."""
    text = re.sub(r"\$\{?YOLO_ATTENTION_NAS_STORAGE}?", URL, text.replace("\\\n", " ")).replace('"$@"', "")
    text = re.sub(r"\$\{?\w+}?", "x", text)
    tails = re.findall(r"python -m nas (.*)", text)
    return [shlex.split(re.split(r"[;|>&]|\s#", tail)[0]) for tail in tails]


def all_commands() -> list[tuple[str, list[str]]]:
    """Of both scripts and of the page's code."""
    told = "\n".join(re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M))
    code = "\n".join(line for line in SLURM.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    rows = [(file.name, words) for file, text in ((SLURM, code), (PAGE, told)) for words in commands_of(text)]
    for _, pod in pods():
        for one in containers(pod):
            args = [a.replace("$(YOLO_ATTENTION_NAS_STORAGE)", URL) for a in one["args"]]
            inside = [args[3:]] if args[:3] == ["python", "-m", "nas"] else commands_of("\n".join(args))
            rows += [(KUBERNETES.name, words) for words in inside]
    return rows


def test_every_command_is_one_that_the_command_line_takes() -> None:
    rows = all_commands()
    for file in (SLURM, KUBERNETES):
        assert {words[0] for name, words in rows if name == file.name} == {"search", "status", "worker"}
    assert {"search", "worker", "status"} <= {words[0] for name, words in rows if name == PAGE.name}
    group: Any = typer.main.get_command(app)
    for name, (command, *words) in rows:
        context = group.commands[command].make_context(command, list(words))  # raises where something is missing
        train = run.parse(context.params.get("args") or [])  # an option that is none would be among these
        if command == "worker":
            assert context.params["storage"] == URL or "@" in context.params["storage"], (name, words)
            assert set(train) <= set(join_command.OWN), (name, words)
        else:
            assert not recipe.train_faults(train), (name, words)


def test_the_script_is_a_script() -> None:
    subprocess.run(["bash", "-n", SLURM], check=True)
    if checker := shutil.which("shellcheck"):
        done = subprocess.run([checker, SLURM], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    lines = SLURM.read_text(encoding="utf-8").splitlines()
    told = [line for line in lines if line.startswith("#SBATCH")]
    assert lines[0] == "#!/usr/bin/env bash" and told and all(OPTION.fullmatch(line) for line in told)
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert all(i < first for i, line in enumerate(lines) if line in told), "Slurm stops looking at the first command"
    assert {"#SBATCH --requeue", "#SBATCH --signal=B:USR1@90", "#SBATCH --gres=gpu:1"} <= set(told)


def sbatch(home: Path, task: int, *args: str, **env: str) -> subprocess.Popen[str]:
    """A task as Slurm starts it, with programs that say what they are asked."""
    programs = home / "venv" / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    for name, text in (("python", PYTHON), ("scontrol", SCONTROL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    given = {
        "SEEN": home / "seen", "TMPDIR": home / "tmp", "NAS_VENV": home / "venv", "NAS_STUDY": "mine",
        "NAS_SHARED": home / "shared", "NAS_DATA": "/d/my.yaml", "NAS_WEIGHTS": "/d/w.pt", "SLURM_JOB_ID": "41",
        "SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": task, "NAS_LOOK": "0.1",
        "YOLO_ATTENTION_NAS_STORAGE": URL,
    }  # fmt: skip
    return subprocess.Popen(
        ["bash", str(SLURM), *args],
        env={**os.environ, **{k: str(v) for k, v in (given | env).items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until(file: Path) -> None:
    """Wait for a file."""
    end = time.monotonic() + 90
    while not file.exists():
        assert time.monotonic() < end, f"{file} has not come"
        time.sleep(0.02)


def test_task_0_searches_and_the_others_wait_for_its_study(tmp_path: Path) -> None:
    both = [sbatch(tmp_path / name, n, "--trials", "9", "imgsz=64") for n, name in enumerate(("zero", "one"))]
    until(tmp_path / "zero" / "seen.begun")
    until(tmp_path / "one" / "seen")
    assert "worker" not in (tmp_path / "one" / "seen").read_text()
    (tmp_path / "one" / "seen.study").touch()
    until(tmp_path / "one" / "seen.begun")
    for name in ("zero", "one"):
        (tmp_path / name / "seen.done").touch()
    assert [p.wait(90) for p in both] == [0, 0]
    searched, worked = ((tmp_path / name / "seen").read_text() for name in ("zero", "one"))
    assert searched.startswith("-m nas search --name mine --data /d/my.yaml")
    assert searched.endswith("--trials 9 imgsz=64 device=0\n")
    assert f"-m nas worker {URL} mine --data /d/my.yaml" in worked and "--trials" not in worked
    assert not list((tmp_path / "one" / "tmp").iterdir()), "what was written on the node is gone"


@pytest.mark.parametrize(("number", "again"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_a_signal_ends_the_training_first_and_only_the_time_limit_queues_again(
    tmp_path: Path, number: signal.Signals, again: bool
) -> None:
    process = sbatch(tmp_path, 0)
    until(tmp_path / "seen.begun")
    process.send_signal(number)
    assert process.wait(90) == 130
    said = (tmp_path / "seen").read_text().splitlines()[1:]
    assert said == ["ended", "scontrol requeue 41"][: 1 + again]


def test_a_signal_is_heard_while_a_worker_waits_for_the_study(tmp_path: Path) -> None:
    process = sbatch(tmp_path, 3)
    until(tmp_path / "seen")
    process.send_signal(signal.SIGTERM)
    assert process.wait(90) == 130
    assert "worker" not in (tmp_path / "seen").read_text()


def test_what_cannot_go_well_is_said(tmp_path: Path) -> None:
    password = sbatch(tmp_path / "a", 0, YOLO_ATTENTION_NAS_STORAGE="postgresql+psycopg://me:secret@db/nas")
    assert "PGPASSFILE" in password.communicate(timeout=90)[0] and password.returncode == 2
    never = sbatch(tmp_path / "b", 1, NAS_PATIENCE="0", NAS_LOOK="1.1")
    assert "no study mine after 0 s" in never.communicate(timeout=90)[0] and never.returncode == 1


def test_every_document_says_what_it_is() -> None:
    kinds = [d["kind"] for d in documents()]
    assert kinds == ["Secret", "Service", "StatefulSet", "PersistentVolumeClaim", "Job", "Job"]
    assert all(d["apiVersion"] and d["metadata"]["name"] for d in documents())


def test_what_is_named_is_there() -> None:
    by = {(d["kind"], d["metadata"]["name"]): d for d in documents()}
    for reference in found(documents(), "secretKeyRef"):
        assert reference["key"] in by["Secret", reference["name"]]["stringData"]
    for claim in found(documents(), "persistentVolumeClaim"):
        assert ("PersistentVolumeClaim", claim["claimName"]) in by
    database, service = by["StatefulSet", "nas-database"], by["Service", "nas-database"]
    labels = database["spec"]["template"]["metadata"]["labels"]
    assert database["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert service["spec"]["selector"].items() <= labels.items()
    assert database["spec"]["serviceName"] == service["metadata"]["name"]
    secret = by["Secret", "nas-database"]["stringData"]
    assert f"@{service['metadata']['name']}:" in secret["url"] and ":" not in secret["url"].split("@")[0].split("//")[1]
    claims = {c["metadata"]["name"] for c in database["spec"]["volumeClaimTemplates"]}
    for name, pod in pods():
        volumes = {v["name"] for v in pod["spec"].get("volumes", ())} | (claims if name == "nas-database" else set())
        assert {m["name"] for c in containers(pod) for m in c["volumeMounts"]} == volumes, name


def test_pods_have_no_rights_and_time_to_close_a_training() -> None:
    for name, pod in pods():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0, name
        assert spec["terminationGracePeriodSeconds"] >= 60 and "hostNetwork" not in spec, name
        for one in containers(pod):
            assert one["securityContext"]["allowPrivilegeEscalation"] is False, name
            assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
    for job in (d for d in documents() if d["kind"] == "Job"):
        spec = job["spec"]["template"]["spec"]
        assert spec["restartPolicy"] == "OnFailure" and spec["shareProcessNamespace"]
        assert [c["resources"]["limits"]["nvidia.com/gpu"] for c in spec["containers"]] == [1]
        assert "completions" not in job["spec"]
