"""Two Ray nodes on this machine and a PostgreSQL of the tests' own; one node is lost in the middle of a search."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import TINY_SPACE, make_dataset, write_recipe
from integration_support import ids, start, wait_for
from optuna.trial import TrialState
from postgres_support import PASSWORD, Postgres, running

from nas import on_ray
from nas.recipe import Recipe, RecipeError

CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
other = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "lose":
        cluster.remove_node(other, allow_graceful=False)
        print("lost", flush=True)
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of this file's own."""
    pytest.importorskip("psycopg")
    with running() as made:
        yield made


@pytest.fixture
def cluster() -> Iterator[subprocess.Popen[str]]:
    """A cluster of two nodes; writing ``lose`` to it kills the second one. Its first line is the address."""
    pytest.importorskip("ray")
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    yield process
    process.stdin.close()  # type: ignore[union-attr]
    process.wait(60)


@pytest.mark.slow
def test_a_search_outlives_a_node(
    cluster: subprocess.Popen[str], postgres: Postgres, tmp_path: Path, tiny_base: Path
) -> None:
    total, address = 20, cluster.stdout.readline().strip()  # type: ignore[union-attr]
    space = tmp_path / "wide.yaml"
    space.write_text(TINY_SPACE.replace("max_blocks: 2", "max_blocks: 3"))  # 27 placements
    recipe = write_recipe(
        tmp_path / "r.yaml", data=make_dataset(tmp_path / "data"), base=tiny_base, space=space, trials=total,
        name="rays", slots=2, storage=postgres.url, output=tmp_path / "runs", epochs=4, rungs=2,
    )  # fmt: skip
    process = start("search", "--recipe", recipe, "--ray", address, cwd=tmp_path)
    lines = wait_for(process, f"[4/{total}]", 240)
    cluster.stdin.write("lose\n")  # type: ignore[union-attr]
    cluster.stdin.flush()  # type: ignore[union-attr]
    rest, _ = process.communicate(timeout=400)
    said = "".join(lines) + rest
    assert process.returncode == 0, said
    assert "workers: 2 on 2 nodes" in said and PASSWORD not in said and "Traceback" not in said
    study = optuna.load_study(study_name="rays", storage=postgres.url)
    trained = [
        t for t in study.trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED) and "score" in t.user_attrs
    ]
    reached = [(t.user_attrs["placement_id"], t.user_attrs["rung"]) for t in trained]
    assert len({p for p, _ in reached}) == total and len(reached) == len(set(reached))
    assert not [t for t in study.trials if t.state in (TrialState.RUNNING, TrialState.WAITING)]
    assert ids(study) and len({t.user_attrs["pid"] for t in trained}) >= 2
    assert (tmp_path / "runs" / "rays" / "front").is_dir()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"storage": None}, "need --storage postgresql"),
        ({"storage": "sqlite:///x.db"}, "need --storage postgresql"),
        ({"storage": "postgresql+psycopg://u@h/d", "ray": "127.0.0.1:1"}, "no cluster there"),
    ],
)
def test_what_no_cluster_can_do_is_refused_at_once(values: dict[str, Any], said: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(RecipeError, match=said):
        on_ray.connect(Recipe(**{"ray": "127.0.0.1:1", **values}))
