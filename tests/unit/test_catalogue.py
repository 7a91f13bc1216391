"""The catalogue says what the registry and the records say; its pages and spaces are current."""

import inspect
import re
import sys
from pathlib import Path

import pytest

import modules
from modules import checks
from modules.contract import check
from modules.registry import FAMILIES
from nas import catalogue, graph, pages
from nas.fit import fit
from search_spaces import load

ROOT = Path(catalogue.__file__).parent.parent
BUILTIN = catalogue.builtin()
NAMES = [spec.name for spec in BUILTIN]


@pytest.mark.parametrize("file", pages.files())
def test_the_written_files_are_current(file: str) -> None:
    written = (ROOT / file).read_text(encoding="utf-8")
    assert written == pages.files()[file], "run python scripts/catalogue.py"


def test_the_catalogue_is_as_large_as_promised() -> None:
    assert len(BUILTIN) >= 55
    assert {spec.family for spec in BUILTIN} == set(FAMILIES)


@pytest.mark.parametrize("spec", BUILTIN, ids=NAMES)
def test_a_block_stands_in_one_short_file_of_its_own(spec: modules.Spec) -> None:
    file = Path(inspect.getfile(spec.block))
    assert (file.parent.name, file.stem) == (spec.family, spec.name)
    assert len(file.read_text().splitlines()) <= 160
    assert [s.name for s in BUILTIN if s.block.__module__ == spec.block.__module__] == [spec.name]


@pytest.mark.parametrize("spec", BUILTIN, ids=NAMES)
def test_a_block_names_its_paper(spec: modules.Spec) -> None:
    """On the first line: title, authors, venue or year, and the identifier that is registered."""
    number = spec.paper.removeprefix("arXiv:")
    assert number in spec.source or not spec.paper.startswith("arXiv:")
    assert re.search(r"(19|20)\d\d", spec.source)
    assert spec.source.count(",") >= 2
    assert re.fullmatch(r"arXiv:\d{4}\.\d{4,5}", spec.paper) or re.search(r"(19|20)\d\d", spec.paper)


@pytest.mark.parametrize("spec", BUILTIN, ids=NAMES)
def test_every_option_has_a_range_that_holds_its_default(spec: modules.Spec) -> None:
    for option, default in spec.options.items():
        assert option in spec.ranges, option
        assert default is None or spec.ranges[option].holds(default), option
        with pytest.raises(ValueError, match=f"{spec.name}: {option} is"):
            modules.check_options(spec.name, {option: -1 if not isinstance(default, str) else "no such"})


def test_every_block_was_measured_wherever_it_may_stand() -> None:
    expected = {(s.name, level) for s in BUILTIN for level in catalogue.LEVELS if catalogue.stands(s, level)}
    assert set(catalogue.latencies()) == expected
    for found in catalogue.latencies().values():
        assert found.ratio == pytest.approx(1 + found.block_ms / found.base_ms, rel=2e-3)


def test_a_quadratic_block_stands_on_small_maps_only() -> None:
    assert catalogue.allowed(modules.spec("mhsa")) == "P4, P5"
    assert catalogue.allowed(modules.spec("eca")) == "anywhere"


def test_records_speak_of_blocks_that_exist() -> None:
    assert {p.name for p in catalogue.parities()} <= set(NAMES)
    assert {r.block for r in catalogue.results()} <= set(NAMES)
    for result in catalogue.results():
        assert (ROOT / result.source).is_file()


@pytest.mark.parametrize("name", ["light", "full"])
def test_the_generated_spaces_fit_yolov10n(name: str) -> None:
    from ultralytics.nn.tasks import yaml_model_load

    faults: list[str] = []
    notes: list[str] = []
    found = graph.sites(yaml_model_load("yolov10n.yaml"))
    fitted = fit(load(name), found, 640, "residual", faults, notes)
    assert not faults
    assert len(fitted.sites) == 9
    for site, blocks in fitted.sites:
        level = catalogue.level_of(site)
        names = {block.name for block in blocks}
        if name == "full":
            assert names == {s.name for s in BUILTIN if catalogue.stands(s, level)}
        else:
            assert names
            assert all(catalogue.latencies()[n, level].ratio < 1.02 for n in names)


def test_numbers_are_short() -> None:
    assert [catalogue.short(n) for n in (7, 999, 1_234, 45_678, 1_640_000, 45_600_000)] == [
        "7",
        "999",
        "1.2k",
        "46k",
        "1.6M",
        "46M",
    ]


def test_the_guide_s_block_holds_the_contract(tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", (ROOT / "modules/GUIDE.md").read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "guide_block.py"
    file.write_text(code[0])
    (name,) = modules.load(file)
    try:
        report = check(name, quick=True)
        assert report.passed, report.failures
        assert str(modules.spec(name).ranges["reduction"]) == str(checks.Int(1))
        with pytest.raises(ValueError, match="mean_max: reduction is 0, allowed: an int >= 1"):
            modules.create(name, 32, reduction=0)
    finally:
        modules.registry._SPECS.pop(name)
        sys.modules.pop("guide_block")
