"""Search spaces and placements: what can be written down, what it means, and what is refused."""

from __future__ import annotations

import itertools
import json

import pytest
from conftest import run_python
from hypothesis import given
from hypothesis import strategies as st

import modules
from search_spaces import Block, Placement, SearchSpace, SpaceError, load, sample, shipped
from search_spaces.space import parse, without

LABELS = ("eca", "cot", "sk", "mhsa")
SITES = ("backbone.p3", "backbone.p4", "neck.p3", "neck.p4")
scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=4)
anything = st.recursive(
    scalars,
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(0, 3), x, max_size=3),
    max_leaves=6,
)
placements = st.dictionaries(st.sampled_from(SITES), st.sampled_from(LABELS)).map(Placement.of)


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Spaces of up to four sites with blocks of their own."""
    names = draw(st.lists(st.sampled_from(SITES), min_size=1, unique=True))
    own = {s: draw(st.lists(st.sampled_from(LABELS), min_size=1, unique=True)) for s in names}
    return parse({"sites": own, "max_blocks": draw(st.integers(1, 5))})


def all_placements(space: SearchSpace) -> set[str]:
    """Ids of all placements of a space, by brute force."""
    rows = itertools.product(*(space.choices(s) for s, _ in space.sites))
    found = (space.placement(dict(zip(dict(space.sites), row, strict=True))) for row in rows)
    return {p.id for p in found if len(p) <= space.max_blocks}


@given(spaces())
def test_size_counts_every_placement_once(space: SearchSpace) -> None:
    assert space.size == len(all_placements(space))


@given(spaces(), st.data())
def test_params_and_placement_are_inverse(space: SearchSpace, data: st.DataObject) -> None:
    params = {s: data.draw(st.sampled_from(space.choices(s))) for s, _ in space.sites}
    assert space.params(space.placement(params)) == params


@given(placements)
def test_id_does_not_depend_on_the_order_of_sites(placement: Placement) -> None:
    turned = Placement.of(dict(reversed(list(placement))))
    assert turned == placement
    assert turned.id == placement.id


@given(placements, placements)
def test_two_placements_share_an_id_only_if_they_are_the_same(a: Placement, b: Placement) -> None:
    assert (a.id == b.id) is (a == b)


def test_id_does_not_depend_on_the_order_of_options_or_on_none() -> None:
    a = Placement.of({"neck.p3": {"sk": {"reduction": 4, "groups": 2}}, "neck.p4": "none", "neck.p5": None})
    b = Placement.of({"neck.p3": {"sk": {"groups": 2, "reduction": 4}}})
    assert a.id == b.id
    assert len(a) == 1


def test_id_is_the_same_in_every_process() -> None:
    text = "from search_spaces import Placement as P; print(P.of({'neck.p4': 'cot', 'neck.p3': {'eca': {'k': 3}}}).id)"
    here = Placement.of({"neck.p3": {"eca": {"k": 3}}, "neck.p4": "cot"}).id
    assert run_python(text).strip() == here


@given(placements)
def test_json_round_trip(placement: Placement) -> None:
    assert Placement.from_json(json.loads(json.dumps(placement.to_json()))) == placement


def test_json_round_trip_keeps_options() -> None:
    placement = Placement.of({"neck.p3": {"eca": {"kernel_size": 5, "act": "x", "flag": True}}, "neck.p4": "cot"})
    assert Placement.from_json(json.loads(json.dumps(placement.to_json()))) == placement


def test_sample_suggests_every_site_in_every_trial() -> None:
    space = parse({"sites": ["a", "b", "c"], "blocks": ["eca", "cot"], "max_blocks": 1})
    asked: dict[str, tuple[str, ...]] = {}

    class Trial:
        def suggest_categorical(self, name: str, choices: tuple[str, ...]) -> str:
            asked[name] = tuple(choices)
            return "cot" if name == "b" else "none"

    assert sample(space, Trial()) == Placement.of({"b": "cot"})
    assert asked == dict.fromkeys("abc", ("none", "eca", "cot"))


def test_hash_tells_spaces_apart_by_what_they_allow_alone() -> None:
    one = {"sites": ["a", "b"], "blocks": ["eca", "cot"], "max_blocks": 1}
    assert parse(one, name="x").hash == parse({**one, "about": "words"}, name="y").hash
    others = (
        {**one, "max_blocks": 2},
        {**one, "max_tokens": 7},
        {**one, "sites": ["a", "c"]},
        {**one, "blocks": ["eca", {"cot": {"kernel_size": 5}}]},
    )
    assert len({parse(o).hash for o in (one, *others)}) == 5


def test_max_blocks_is_no_more_than_the_sites() -> None:
    assert parse({"sites": ["a", "b"], "blocks": ["eca"], "max_blocks": 9}).max_blocks == 2


def test_without_drops_blocks_and_then_the_empty_site() -> None:
    space = parse({"sites": ["a", "b"], "blocks": ["eca", "cot"], "max_blocks": 2})
    less = without(space, "a", ["eca"])
    assert less.choices("a") == ("none", "cot")
    assert less.choices("b") == space.choices("b")
    gone = without(less, "a", ["cot"])
    assert [s for s, _ in gone.sites] == ["b"]
    assert gone.max_blocks == 1


def test_all_faults_are_told_at_once_with_the_nearest_match() -> None:
    wrong = {
        "sites": ["a", "a"],
        "block": ["eca"],
        "blocks": ["eca", "eca", 7, "none"],
        "max_blocks": 0,
        "max_tokens": True,
    }
    with pytest.raises(SpaceError) as e:
        parse(wrong, where="mine.yaml")
    text = str(e.value)
    for part in (
        "unknown key 'block'",
        "did you mean 'blocks'?",
        "'a' is named twice",
        "'eca' is listed twice",
        "got 7",
        "'none' need not be listed",
        "max_blocks: expected a whole number of at least 1, got 0",
        "max_tokens: expected a whole number of at least 1, got True",
    ):
        assert part in text
    assert all(line.startswith("mine.yaml: ") for line in text.splitlines())


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "expected a mapping"),
        ([], "expected a mapping"),
        ({}, "sites: expected"),
        ({"sites": []}, "sites: expected"),
        ({"sites": ["a"]}, "sites.a: no block"),
        ({"sites": {"a": []}}, "sites.a: no block"),
        ({"sites": {"a": "eca"}}, "sites.a: expected a list of blocks"),
        ({"sites": ["a"], "blocks": "eca"}, "blocks: expected a list"),
        ({"sites": ["a"], "blocks": [{"eca": 3}]}, "a block is written"),
        ({"sites": ["a"], "blocks": [{"eca": {"kernel_size": [3]}}]}, "eca"),
        ({"sites": ["a"], "blocks": [{"eca": {"kernel_size": {"x": 1}}}]}, "eca"),
        ({"sites": ["a"], "blocks": [{"eca": {1: 2, "b": 3}}]}, "eca"),
    ],
)
def test_a_space_that_says_nothing_usable_is_refused(data: object, says: str) -> None:
    with pytest.raises(SpaceError, match=r".+") as e:
        parse(data)
    assert says in str(e.value)


blocks = st.lists(st.dictionaries(st.text(max_size=2), st.dictionaries(st.text(max_size=2) | st.integers(), anything)))


@given(
    anything
    | st.fixed_dictionaries({"sites": anything, "blocks": anything, "max_blocks": anything})
    | st.fixed_dictionaries({"sites": st.just(["a"]), "blocks": blocks})
)
def test_whatever_a_file_says_is_a_space_or_a_space_error(data: object) -> None:
    try:
        space = parse(data)
    except SpaceError as e:
        assert str(e)
    else:
        assert space.size > 1
        assert space.hash
        assert all(space.choices(site)[0] == "none" for site, _ in space.sites)


def test_a_date_as_an_option_is_refused(tmp_path) -> None:
    file = tmp_path / "dated.yaml"
    file.write_text("sites: [a]\nblocks:\n  - eca: {kernel_size: 2024-01-01}\n")
    with pytest.raises(SpaceError, match="eca"):
        assert load(file).hash


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_spaces_load(name: str) -> None:
    space = load(name)
    assert space.name == name
    assert space.size > 1
    blocks = {b.name for b in space.blocks.values()}
    if name in ("light", "full"):  # made from the registry, tests/unit/test_catalogue.py
        assert blocks <= set(modules.names())
    else:
        assert blocks <= {
            "cot", "eca", "mhsa", "mobilevit", "parnet", "s2", "shuffle", "simam", "sk", "triplet",
        }  # fmt: skip


def test_unknown_space_names_the_nearest() -> None:
    with pytest.raises(SpaceError, match="did you mean 'article'"):
        load("artcle")


@pytest.mark.parametrize("content", [b"a: [1\n", b"\xff\xfe\x00\x01", b"", b"3\n"])
def test_a_file_that_is_no_space_is_refused(tmp_path, content: bytes) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    with pytest.raises(SpaceError, match=r"x\.yaml"):
        load(file)


def test_block_forms() -> None:
    assert Block.parse("eca") == Block.parse({"eca": None}) == Block.parse({"eca": {}}) == Block("eca")
    assert Block.parse({"eca": {"kernel_size": 3}}).label == "eca(kernel_size=3)"
