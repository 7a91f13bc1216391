"""The notebook in `studies/` runs from its first cell to its last, and makes what it promises."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import REPO

NOTEBOOK = REPO / "studies" / "from-dataset-to-model.ipynb"
ASK = """
import json
print("RESULT", json.dumps({
    "front": study.front.to_dict("records"), "yaml": str(point.yaml), "weights": str(point.weights),
    "map": metrics.box.map, "onnx": onnx_file, "torch": by_torch.tolist(), "onnxruntime": by_onnx.tolist(),
    "pictures": len(results), "best": str(model.trainer.best),
}))
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, dict[str, Any]]:
    """The folder where it ran, the notebook with its outputs, and what its variables hold at the end."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    folder = tmp_path_factory.mktemp("notebook")
    book = nbformat.read(NOTEBOOK, as_version=4)
    book.cells.append(nbformat.v4.new_code_cell(ASK))
    # a kernel is no test run: Ultralytics would write its folders elsewhere
    env = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"} | {"PYTHONPATH": str(REPO)}
    client = nbclient.NotebookClient(book, timeout=900, resources={"metadata": {"path": str(folder)}})
    client.execute(env=env)  # raises where a cell fails
    (said,) = [o["text"] for o in book.cells[-1]["outputs"] if o["output_type"] == "stream"]
    return folder, book, json.loads(said.removeprefix("RESULT "))


def test_it_is_stored_without_outputs_and_names_no_machine() -> None:
    stored = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in stored["cells"] if cell["cell_type"] == "code"]
    assert code and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert not re.findall(r"(?<![\w.~])/(?:home|root|tmp|work|Users|mnt)\b", NOTEBOOK.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_it_ends_with_a_model_that_onnxruntime_runs(executed: tuple[Path, Any, dict[str, Any]]) -> None:
    folder, _, found = executed
    for name in ("runs/notebook/trials.csv", "runs/notebook/pareto.html", "runs/notebook/recipe.yaml"):
        assert (folder / name).is_file(), name
    for name in ("yaml", "weights", "best", "onnx"):
        assert (folder / found[name]).is_file(), name
    assert Path(found["onnx"]).suffix == ".onnx"
    assert len(found["torch"]) == len(found["onnxruntime"]) > 0
    for one, other in zip(found["torch"], found["onnxruntime"], strict=True):
        assert one == pytest.approx(other, abs=1e-2)


@pytest.mark.slow
def test_its_figures_are_those_of_a_trained_detector(executed: tuple[Path, Any, dict[str, Any]]) -> None:
    found = executed[2]
    assert math.isfinite(found["map"]) and 0.3 < found["map"] <= 1
    assert found["front"] and all(0.3 < row["map50_95"] <= 1 for row in found["front"])
    assert found["pictures"] == 4


@pytest.mark.slow
def test_its_pictures_are_there_and_its_progress_is_short(executed: tuple[Path, Any, dict[str, Any]]) -> None:
    outputs = {cell["id"]: cell["outputs"] for cell in executed[1].cells if cell["cell_type"] == "code"}
    kinds = [kind for cell in outputs.values() for o in cell for kind in o.get("data", {})]
    assert kinds.count("image/png") == 2 and "application/vnd.plotly.v1+json" in kinds
    (search,) = [c for c in executed[1].cells if "nas.search(" in c["source"] and c["cell_type"] == "code"]
    text = "".join(o.get("text", "") for o in search["outputs"] if o["output_type"] == "stream")
    assert len(text.splitlines()) <= 10, text
    tables = [o for o in search["outputs"] if o["output_type"] == "display_data"]
    assert len(tables) == 1 and "5 of 5 placements trained" in re.sub(
        r"\x1b\[[\d;]*m", "", tables[0]["data"]["text/plain"]
    )
