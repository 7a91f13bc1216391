"""GFLOPs: thop with our rules counts what torch's flop counter counts, and softmax on top."""

import pytest
import torch
from torch import nn

import modules
from modules import macs
from modules.kernel.cot import LocalAggregation
from modules.layers import ScaledDotProduct

WITHOUT_PRODUCTS = {"gct", "ge", "nam", "shuffle", "simam", "srm"}  # means, norms and gates alone
SIZES = [(64, 80), (128, 40), (256, 20)]


@pytest.mark.parametrize(("channels", "side"), SIZES)
@pytest.mark.parametrize("name", modules.names())
def test_products_agree_with_torch(name: str, channels: int, side: int) -> None:
    with torch.device("meta"):
        block, x = modules.create(name, channels).eval(), torch.empty(1, channels, side, side)
    ours, torchs = macs.products_by_thop(block, x), macs.products_by_torch(block, x)
    assert ours == pytest.approx(torchs, rel=0.01)
    assert (ours == 0) == (name in WITHOUT_PRODUCTS)


@pytest.mark.parametrize(
    ("name", "mmac"),
    [
        ("cot", 126.2),
        ("mhsa", 5395.0),
        ("parnet", 262.1),
        ("s2", 104.9),
        ("sk", 14.8),
        ("triplet", 1.63),
    ],
)
def test_products_at_p3_equal_the_hand_count(name: str, mmac: float) -> None:
    """Against figures from outside both counters, so that a fault common to them is seen."""
    with torch.device("meta"):
        block, x = modules.create(name, 64).eval(), torch.empty(1, 64, 80, 80)
    assert macs.products_by_thop(block, x) / 1e6 == pytest.approx(mmac, rel=0.01)


def test_attention_counts_products_and_softmax() -> None:
    q = torch.empty(2, 4, 50, 8, device="meta")
    products, softmax = 2 * 4 * 50 * 50 * 16, 2 * 4 * 50 * (3 * 50 - 1)
    assert macs.macs(ScaledDotProduct(), q, q, q) == products + softmax
    assert macs.products_by_thop(ScaledDotProduct(), q, q, q) == products


def test_softmax_rule_is_thops() -> None:
    scores = torch.empty(2, 4, 50, 50, device="meta")
    assert macs.macs(nn.Softmax(dim=-1), scores) == 2 * 4 * 50 * (3 * 50 - 1)


def test_aggregation_counts_its_taps() -> None:
    v, weight = torch.empty(2, 16, 5, 7, device="meta"), torch.empty(2, 2, 9, 5, 7, device="meta")
    assert macs.macs(LocalAggregation(3), v, weight) == 9 * v.numel()


def test_attend_counts_its_block() -> None:
    with torch.device("meta"):
        attend, x = modules.Attend(64, "mhsa").eval(), torch.empty(1, 64, 20, 20)
        assert macs.macs(attend, x) == macs.macs(attend.block, x)


def test_counters_are_needed() -> None:
    """Negative control: without them the softmax of the attention is lost."""
    import thop

    with torch.device("meta"):
        block, x = modules.create("mhsa", 64).eval(), torch.empty(1, 64, 20, 20)
    bare, _ = thop.profile(block, (x,), verbose=False)
    assert bare < macs.macs(block, x)
