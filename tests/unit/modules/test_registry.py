"""The registry refuses what cannot work in a YAML, and says what is allowed."""

import os
import subprocess
import sys
import types
from collections.abc import Iterator

import pytest
from torch import Tensor, nn

import modules
from modules import registry

TEN = ("cot", "eca", "mhsa", "mobilevit", "parnet", "s2", "shuffle", "simam", "sk", "triplet")


class Nothing(nn.Module):
    """Gives x back."""

    def __init__(self, channels: int, gain: float = 1.0) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.fixture
def clean() -> Iterator[None]:
    """Undo registrations."""
    modules.names()
    before = dict(registry._SPECS)
    yield
    registry._SPECS.clear()
    registry._SPECS.update(before)


def put(name: str, block: type = Nothing, **facts: object) -> type:
    return modules.attention(name, paper="none", family="test", **facts)(block)  # type: ignore[arg-type]


def test_has_the_ten() -> None:
    assert set(TEN) <= set(modules.names())
    assert modules.names() == tuple(sorted(modules.names()))


def test_spec_tells_options_and_title() -> None:
    spec = modules.spec("cot")
    assert dict(spec.options) == {"kernel_size": 3, "groups": 4, "share": 8}
    assert (spec.paper, spec.family, spec.cost) == ("arXiv:2107.12292", "kernel", "linear")
    assert spec.title.startswith("Local attention")


def test_tokens() -> None:
    assert modules.spec("eca").tokens(80, 80) is None
    assert modules.spec("mhsa").tokens(13, 17) == 221
    assert modules.spec("mobilevit").tokens(80, 80) == 1600


@pytest.mark.parametrize("name", TEN)
def test_creates_with_every_default_written_out(name: str) -> None:
    modules.create(name, 16, **modules.spec(name).options)


def test_unknown_block_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown block 'shufle' \(did you mean 'shuffle'\?\); allowed: .*cot, .*eca"):
        modules.create("shufle", 16)


def test_unknown_option_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'eca': unknown option 'kernel' .*'kernel_size'.*allowed: kernel_size"):
        modules.create("eca", 16, kernel=3)
    with pytest.raises(ValueError, match="no options"):
        modules.check_options("s2", {"groups": 2})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("eca", {"kernel_size": 4}, "eca: kernel_size is 4, allowed: an odd int >= 1"),
        ("cot", {"kernel_size": True}, "cot: kernel_size is True"),
        ("cot", {"groups": 0}, "cot: groups is 0"),
        ("cot", {"share": "8"}, "cot: share is '8'"),
        ("mhsa", {"num_heads": 0}, "mhsa: num_heads is 0"),
        ("mhsa", {"feat_size": 2.5}, "mhsa: feat_size is 2.5"),
        ("mobilevit", {"depth": 0}, "mobilevit: depth is 0"),
        ("mobilevit", {"dim": -8}, "mobilevit: dim is -8"),
        ("parnet", {"kernel_size": 2}, "parnet: kernel_size is 2"),
        ("shuffle", {"groups": -1}, "shuffle: groups is -1"),
        ("simam", {"e_lambda": 0}, "simam: e_lambda is 0, allowed: a number > 0"),
        ("sk", {"reduction": 0}, "sk: reduction is 0"),
        ("triplet", {"kernel_size": 6}, "triplet: kernel_size is 6"),
    ],
)
def test_wrong_values_are_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        modules.create(name, 16, **options)


@pytest.mark.parametrize("name", TEN)
def test_wrong_channels_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: channels is 0"):
        modules.create(name, 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("eca", "is taken by ECA"),
        ("act", "would be replaced"),
        ("c2", "would be replaced"),
        ("lambda", "would be replaced"),
        ("Eca", "lower-case"),
        ("2d", "lower-case"),
        ("a-b", "lower-case"),
    ],
)
def test_bad_names_are_refused(clean: None, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        put(name)
    assert name not in modules.names() or modules.spec(name).block is not Nothing


def test_bad_facts_are_refused(clean: None) -> None:
    with pytest.raises(ValueError, match="cost is 'cubic'"):
        put("nothing", cost="cubic")
    with pytest.raises(ValueError, match="tokens is 0"):
        put("nothing", cost="quadratic", tokens=0)


def test_bad_signatures_are_refused(clean: None) -> None:
    class Dim(nn.Module):
        def __init__(self, dim: int) -> None: ...

    class Loose(nn.Module):
        def __init__(self, channels: int, **rest: int) -> None: ...

    class Required(nn.Module):
        def __init__(self, channels: int, groups: int) -> None: ...

    for block, message in ((Dim, "first argument is 'dim'"), (Loose, "'rest'"), (Required, "'groups'")):
        with pytest.raises(ValueError, match=message):
            put("nothing", block)


def test_a_good_block_goes_in(clean: None) -> None:
    assert put("nothing") is Nothing
    assert isinstance(modules.create("nothing", 8, gain=2.0), Nothing)
    assert modules.spec("nothing").title == "Gives x back."


def test_parser_locals_are_complete() -> None:
    """What Ultralytics' parser replaces a string by, its comprehensions' names too."""
    from ultralytics.nn.tasks import parse_model

    def locals_of(code: types.CodeType) -> set[str]:
        inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
        return {*code.co_varnames, *code.co_cellvars}.union(*map(locals_of, inner))

    found = {name for name in locals_of(parse_model.__code__) if name[0].isalpha()}
    assert "c2" in found
    assert found <= registry.PARSER_LOCALS


def test_importing_the_package_is_cheap_and_never_brings_ultralytics() -> None:
    code = (
        "import sys, modules\n"
        "assert 'torch' not in sys.modules\n"
        "modules.names(), modules.Attend\n"
        "import modules.contract\n"
        "assert not {'ultralytics', 'optuna'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
