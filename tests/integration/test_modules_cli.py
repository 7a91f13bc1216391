"""`modules`, `modules show`, `modules check` as a person meets them."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

import modules
from modules.registry import FAMILIES

GUIDE = Path(modules.__file__).parent / "GUIDE.md"


@pytest.fixture
def own_block(tmp_path: Path) -> Any:
    file = tmp_path / "own_block_of_guide.py"
    file.write_text(re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[0])
    yield file
    modules.registry._SPECS.pop("mean_max", None)
    sys.modules.pop(file.stem, None)


def test_the_list_names_every_block_and_family_with_its_costs(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    result = cli("modules")
    assert result.code == 0, result.text
    lines = {line.split()[0]: line for line in result.out.splitlines() if line.strip()}
    assert set(modules.names()) | set(FAMILIES) <= set(lines)
    assert re.search(r"1\.2k/2\.3k/8\.7k\s+0\.000/0\.000/0\.000\s+1\.\d+/1\.\d+/1\.\d+\s+1709\.01507", lines["se"])
    assert "P4, P5" in lines["mhsa"]


def test_one_family_and_another_scale(cli: Any) -> None:
    result = cli("modules", "--family", "quadratic", "--scale", "s")
    assert result.code == 0, result.text
    assert "psa" in result.text and "cbam" not in result.text
    assert "measured at scale n only" in result.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--family", "kernels"], "did you mean 'kernel'?"),
        (["--scale", "q"], "allowed: n, s, m, b, l, x"),
    ],
)
def test_what_does_not_exist_is_refused(cli: Any, arguments: list[str], said: str) -> None:
    result = cli("modules", *arguments)
    assert result.code == 2
    assert said in result.text


def test_show_tells_formula_options_costs_references_results(cli: Any) -> None:
    result = cli("modules", "show", "mhsa")
    assert result.code == 0, result.text
    for part in (
        "Srinivas",
        "softmax_j",
        "num_heads",
        "an int >= 1",
        "6,400 tokens: too many",
        "https://arxiv.org/abs/2101.11605",
        "JDAI-CV/CoTNet",
        "largest difference",
        "demo scenes",
    ):
        assert part in result.text, part


def test_show_says_when_nothing_is_known(cli: Any) -> None:
    assert "no study of ours has measured it" in cli("modules", "show", "cbam").text


def test_an_own_block_is_shown_listed_and_checked(cli: Any, own_block: Path) -> None:
    shown = cli("modules", "show", "mean_max", "--modules", own_block)
    assert shown.code == 0, shown.text
    assert "reduction" in shown.text and "not measured" in shown.text
    assert "mean_max" in cli("modules", "--modules", own_block).text
    checked = cli("modules", "check", own_block, "--quick")
    assert checked.code == 0, checked.text
    assert "passed" in checked.text and "onnx" not in checked.text
