"""Goes in: nothing. Comes out: each block's multiply-adds by our counter and by torch's, at three map sizes.

bash scripts/run.sh python scripts/table_flops.py
"""

from __future__ import annotations

import torch

import modules
from modules.macs import macs, products_by_thop, products_by_torch

SIZES = ((64, 80), (128, 40), (256, 20))


def main() -> None:
    """Print the table; GFLOPs are two per multiply-add."""
    print("| block | map | thop, all | thop, convolutions and products | torch flop_counter | deviation |")
    print("|---|---|---:|---:|---:|---:|")
    worst = 0.0
    for name in modules.names():
        for channels, size in SIZES:
            block, x = modules.create(name, channels).eval(), torch.randn(1, channels, size, size)
            everything, ours, theirs = (2e-9 * f(block, x) for f in (macs, products_by_thop, products_by_torch))
            off = abs(ours - theirs) / theirs if theirs else float(ours != 0)
            worst = max(worst, off)
            print(
                f"| {name} | {channels} x {size}x{size} | {everything:.6f} | {ours:.6f} | {theirs:.6f} | {off:.3%} |",
                flush=True,
            )
    print(f"\nlargest deviation {worst:.3%}")


if __name__ == "__main__":
    main()
