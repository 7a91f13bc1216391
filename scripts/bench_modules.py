"""Each block beside its usual implementation (scripts/usual/): time and peak memory, interleaved in one run.

    python scripts/bench_modules.py                  all blocks, P3/P4/P5 of scales n and s; CSV and plot in --out
    python scripts/bench_modules.py --quick --json   under a minute: P4 of scale n; last line is one JSON object

forward: eval mode, batch 1, ours in deploy form (`deploy.fold`), the usual one as it stands, which Ultralytics'
fuse() leaves untouched. train: forward and backward in train mode, batch 2, since many a published block fails at 1.
Maps are contiguous fp32 (fp16 autocast with --amp). A ratio is ours / usual: the median over pairs run in turn. A
block counts as slower where three quarters of its pairs are. Memory is the peak of live tensor bytes that the pass
itself allocates.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import ctypes
import functools
import importlib
import json
import statistics
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import modules
from modules import deploy

LEVELS = {  # scale -> level -> channels, pixels a side, of YOLOv10 at 640
    "n": {"p3": (64, 80), "p4": (128, 40), "p5": (256, 20)},
    "s": {"p3": (128, 80), "p4": (256, 40), "p5": (512, 20)},
}
MAX_TOKENS = 1600  # a quadratic block is not measured on maps of more
SAMPLE_SECONDS = 2e-3  # a sample repeats the call until it lasts so long
Pass = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """One block at one level in one mode; times are medians in milliseconds of one call, memory in MiB."""

    block: str
    family: str
    scale: str
    level: str
    mode: str
    ms: float
    usual_ms: float
    time_ratio: float
    low: float
    high: float
    mib: float
    usual_mib: float
    memory_ratio: float
    pairs: int
    device: str
    threads: int


class LivePeak(TorchDispatchMode):
    """Bytes of the storages made under it that are alive, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.seen: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        y = func(*args, **(kwargs or {}))
        for t in tree_leaves(y):
            if isinstance(t, Tensor):
                storage = t.untyped_storage()
                if storage._cdata not in before and storage._cdata not in self.seen:
                    self._watch(storage)
        return y

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()

        def gone(_: Any) -> None:
            self.live -= size
            del self.seen[key]

        self.seen[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)


@functools.cache
def usual() -> dict[str, Callable[[int], nn.Module]]:
    """All usual implementations, by the block's name."""
    found: dict[str, Callable[[int], nn.Module]] = {}
    for file in sorted((Path(__file__).parent / "usual").glob("[a-z]*.py")):
        found |= importlib.import_module(f"usual.{file.stem}").USUAL
    return found


def passes(block: nn.Module, x: Tensor, mode: str, amp: bool) -> Pass:
    """The pass to be measured, its gradients thrown away."""
    precision = torch.autocast(x.device.type, dtype=torch.float16, enabled=amp)
    if mode == "forward":

        def forward() -> Tensor:
            with torch.inference_mode(), precision:
                return block(x)

        return forward
    block.train()
    x = x.clone().requires_grad_()
    weights = [x, *(p for p in block.parameters() if p.requires_grad)]

    def train() -> Any:
        with precision:
            y = block(x)
        return torch.autograd.grad(y, weights, torch.ones_like(y), allow_unused=True)

    return train


def peak_bytes(run: Pass, device: torch.device) -> int:
    """Peak of what one pass allocates."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with LivePeak() as watch:
        run()
    return watch.peak


def seconds(run: Pass, repeats: int, device: torch.device) -> float:
    """One sample, per call."""
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / repeats


def pairs(ours: Pass, theirs: Pass, device: torch.device, runs: int, limit_s: float) -> tuple[list[float], list[float]]:
    """Samples of both in turn, the order changing, until `runs` or, after five, `limit_s`."""
    for _ in range(2):
        ours(), theirs()
    one = max(seconds(ours, 1, device), seconds(theirs, 1, device))
    repeats = max(1, min(100, round(SAMPLE_SECONDS / one)))
    a: list[float] = []
    b: list[float] = []
    start = time.perf_counter()
    while len(a) < runs and (len(a) < 5 or time.perf_counter() - start < limit_s):
        for run, times in ((ours, a), (theirs, b)) if len(a) % 2 else ((theirs, b), (ours, a)):
            times.append(seconds(run, repeats, device))
    return a, b


def measure(name: str, scale: str, level: str, args: argparse.Namespace) -> Iterator[Row]:
    """Both modes of one block at one level."""
    channels, side = LEVELS[scale][level]
    device, build = torch.device(args.device), usual()[name]
    for mode, batch in (("forward", args.batch), ("train", max(args.batch, 2))):
        x = torch.randn(batch, channels, side, side, device=device)
        torch.manual_seed(0)
        ours, theirs = modules.create(name, channels).to(device).eval(), build(channels).to(device).eval()
        if mode == "forward":
            deploy.fold(ours)
        one, two = passes(ours, x, mode, args.amp), passes(theirs, x, mode, args.amp)
        a, b = pairs(one, two, device, args.runs, args.seconds)
        low, ratio, high = statistics.quantiles([p / q for p, q in zip(a, b, strict=True)], n=4)
        mib, usual_mib = peak_bytes(one, device) / 2**20, peak_bytes(two, device) / 2**20
        yield Row(
            block=name,
            family=modules.spec(name).family,
            scale=scale,
            level=level,
            mode=mode,
            ms=1e3 * statistics.median(a),
            usual_ms=1e3 * statistics.median(b),
            time_ratio=ratio,
            low=low,
            high=high,
            mib=mib,
            usual_mib=usual_mib,
            memory_ratio=mib / usual_mib,
            pairs=len(a),
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            threads=torch.get_num_threads(),
        )


def of_blocks(rows: list[Row], value: Callable[[Row], float]) -> dict[str, float]:
    """The median over a block's levels and modes."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row.block, []).append(value(row))
    return {name: statistics.median(values) for name, values in found.items()}


def summary(rows: list[Row]) -> dict[str, Any]:
    """What --json prints."""
    times, memory = of_blocks(rows, lambda r: r.time_ratio), of_blocks(rows, lambda r: r.memory_ratio)
    slower = sorted(name for name, low in of_blocks(rows, lambda r: r.low).items() if low > 1)
    quadratic = [r.memory_ratio for r in rows if modules.spec(r.block).cost == "quadratic" and r.level == "p4"]
    return {
        "blocks": len(times),
        "median_time_ratio": round(statistics.median(times.values()), 3),
        "worst_time_ratio": round(max(times.values()), 3),
        "worst_block": max(times, key=times.__getitem__),
        "median_memory_ratio": round(statistics.median(memory.values()), 3),
        "quadratic_p4_memory_ratio": round(statistics.median(quadratic), 3) if quadratic else None,
        "slower_beyond_noise": slower,
        "fastest": dict(sorted(((k, round(v, 3)) for k, v in times.items()), key=lambda item: item[1])[:5]),
        "device": rows[0].device,
        "threads": rows[0].threads,
    }


def plot(rows: list[Row], file: Path) -> None:
    """Time ratio of every block, a point a level and mode."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    times = of_blocks(rows, lambda r: r.time_ratio)
    order = sorted(times, key=times.__getitem__)
    figure, axis = pyplot.subplots(figsize=(8, 1.5 + 0.2 * len(order)))
    for mode, colour in (("forward", "#1f77b4"), ("train", "#ff7f0e")):
        chosen = [r for r in rows if r.mode == mode]
        y = [order.index(r.block) for r in chosen]
        axis.scatter([r.time_ratio for r in chosen], y, s=12, color=colour, alpha=0.7, label=mode)
    axis.scatter([times[n] for n in order], range(len(order)), marker="|", s=120, color="black", label="median")
    axis.axvline(1, color="grey", linewidth=0.8)
    axis.set_xscale("log")
    ticks = [0.05, 0.1, 0.2, 0.5, 1, 2]
    axis.set_xticks(ticks, [str(t) for t in ticks])
    axis.set_yticks(range(len(order)), order, fontsize=8)
    axis.set_ylim(-1, len(order))
    axis.set_xlabel(f"time, ours / usual implementation ({rows[0].device}, {rows[0].threads} threads)")
    axis.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def keep_pages() -> None:
    """Tell glibc to keep freed memory, or page faults of either side fall on the other at random (Linux)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**28)):  # no mmap, no trimming, grow by 256 MiB
            mallopt(option, value)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("blocks", nargs="*", help="names; all unless given")
    parser.add_argument("--scales", nargs="+", default=list(LEVELS), choices=list(LEVELS))
    parser.add_argument("--levels", nargs="+", default=["p3", "p4", "p5"], choices=["p3", "p4", "p5"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--runs", type=int, default=15, help="pairs")
    parser.add_argument("--seconds", type=float, default=4.0, help="stop a measurement after so long, and five pairs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads, by default all")
    parser.add_argument("--amp", action="store_true", help="fp16 autocast")
    parser.add_argument("--quick", action="store_true", help="P4 of scale n, five pairs")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--out", type=Path, help="folder for modules-speed.csv and .png")
    args = parser.parse_args()
    if args.quick:
        args.scales, args.levels, args.runs, args.seconds = ["n"], ["p4"], 5, 0.3
    known = usual()
    args.blocks = args.blocks or [n for n in modules.names() if modules.spec(n).builtin and n in known]
    for name in args.blocks:
        modules.spec(name)
        if name not in known:
            parser.error(f"{name}: no usual implementation in scripts/usual; there are {', '.join(sorted(known))}")
    return args


def main() -> None:
    """Measure, print, write."""
    args = arguments()
    keep_pages()
    torch.set_num_threads(args.threads)
    rows: list[Row] = []
    for name in args.blocks:
        for scale in args.scales:
            for level in args.levels:
                side = LEVELS[scale][level][1]
                if (modules.spec(name).tokens(side, side) or 0) > MAX_TOKENS:
                    continue
                for row in measure(name, scale, level, args):
                    rows.append(row)
                    print(
                        f"{row.block:12} {row.scale} {row.level} {row.mode:8}{row.ms:9.3f} ms /{row.usual_ms:9.3f} ms"
                        f"  time x{row.time_ratio:5.2f} ({row.low:.2f} to {row.high:.2f})"
                        f"  memory x{row.memory_ratio:5.2f}",
                        flush=True,
                    )
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        with (args.out / "modules-speed.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
            writer.writeheader()
            for row in rows:
                writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in asdict(row).items()})
        with contextlib.suppress(ImportError):
            plot(rows, args.out / "modules-speed.png")
    found = summary(rows)
    print(json.dumps(found) if args.json else "\n".join(f"{key}: {value}" for key, value in found.items()))


if __name__ == "__main__":
    main()
