"""Goes in: the warm base, nothing inserted yet. Comes out: for each block at each site what it promises and costs.

Both are read off one block at a time, without any training:

worth: How fast the loss would begin to fall if the block stood there. A residual block is y = x + gamma f(x; theta)
    with gamma = 0, so that the loss L falls first along dL/dgamma = sum(dL/dx * f(x)) and, once gamma is open, along
    d/dtheta sum(dL/dx * f(x; theta)): the base's gradient at the site, seen through the block. Their lengths (of the
    mean over batches, without what noise adds to them) are multiplied and the square root is taken. Growing networks
    where the gradient asks for it is the idea of GradMax (arXiv 2201.05125) and Firefly (arXiv 2102.08574).
latency: Milliseconds of the block alone on a map of that size, over the base's: what it adds to a latency ratio.

Neither is believed: nas/surrogate.py holds them against what is trained and measured.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from ultralytics.utils.torch_utils import init_seeds

from modules.attend import Attend
from nas import cost, locks
from nas.demo import cache_folder
from nas.setting import Setting
from nas.train import quietly
from nas.trainer import TRAINERS
from nas.warm import WarmBase, overrides_of
from search_spaces import Block

BATCHES = 10  # that the gradients are the mean of
PICTURES, LEAST = 16, 2  # in a batch: so many of SMALL pixels a side, of larger ones fewer, but no less than that
SMALL = 128
RUNS, WARMUP = 20, 3  # of the block alone


@dataclass(frozen=True)
class Cell:
    """A block at a site.

    Args:
        block: Its label.
        worth: See the module, in the loss' units; None where it cannot be told (wire "plain", or it fails there).
        latency: What it adds to the latency over the base's; None where it fails: its trial will say why.
    """

    site: str
    block: str
    worth: float | None
    latency: float | None


def scout(setting: Setting, warm: WarmBase) -> tuple[list[Cell], int]:
    """Look at every block at every site; also the number of training images that it took.

    Raises:
        TrainingFailed: The base's own loss cannot be computed.
    """
    sites, images = setting.sites, 0
    gradients: dict[str, list[tuple]] = {name: [] for name in sites}
    if setting.recipe.wire == "residual":
        with quietly(setting.log):
            gradients, images = at_sites(setting, warm, {name: site.row for name, site in sites.items()})
    cells = []
    for name, blocks in setting.space.sites:
        maps = [(x.to(setting.device), g.to(setting.device)) for x, g in gradients[name]]
        for block in blocks:
            try:
                worth = promise(block, sites[name].channels, maps, setting) if maps else None
                size = sites[name].size(setting.recipe.imgsz)
                cell = Cell(name, block.label, worth, extra_latency(block, sites[name].channels, size, setting))
            except Exception:  # whatever a block of the user's own may raise
                cell = Cell(name, block.label, None, None)
            cells.append(cell)
    return cells, images


def to_json(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """As a study keeps it."""
    return [asdict(one) for one in cells]


def from_json(data: Sequence[Mapping[str, Any]]) -> list[Cell]:
    """The inverse of :func:`to_json`."""
    return [Cell(**one) for one in data]


def at_sites(setting: Setting, warm: WarmBase, rows: Mapping[str, int]) -> tuple[dict[str, list[tuple]], int]:
    """For each site the maps of some training batches and the gradients of the loss there, per image.

    The base is in training mode with its norm statistics held, and left as it was.
    """
    trainer = TRAINERS[setting.task.name](warm.model, overrides_of(setting, 1), setting.recipe.protocol)
    was = [m.training for m in warm.model.modules()]
    model = warm.model.to(setting.device).train()
    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.eval()
    trainer.set_model_attributes()
    criterion = model.init_criterion()
    seen: dict[str, Tensor] = {}
    hooks = [
        model.model[row].register_forward_hook(lambda _, __, y, name=name: seen.__setitem__(name, y))
        for name, row in rows.items()
    ]
    found: dict[str, list[tuple]] = {name: [] for name in rows}
    images = 0
    try:
        for batch in batches(trainer):
            loss = criterion(model(batch["img"]), batch)[0].sum() / len(batch["img"])
            gradients = torch.autograd.grad(loss, [seen[name] for name in rows])
            for name, gradient in zip(rows, gradients, strict=True):
                found[name].append((seen[name].detach().cpu(), gradient.cpu()))
            images += len(batch["img"])
    finally:
        for hook in hooks:
            hook.remove()
        model.cpu()
        for m, training in zip(model.modules(), was, strict=True):
            m.training = training
    return found, images


def batches(trainer: Any) -> Iterator[dict[str, Any]]:
    """A few random training pictures at a time, as the network sees them."""
    stride = getattr(trainer.model, "stride", None)
    trainer.stride = max(32 if stride is None else int(stride.max()), 32)  # so that trainings share what is read here
    dataset = trainer.build_dataset(trainer.data["train"], "train", trainer.args.batch)
    size = min(max(round(PICTURES * (SMALL / trainer.args.imgsz) ** 2), LEAST), PICTURES, max(len(dataset) // 2, 1))
    order = torch.Generator().manual_seed(trainer.args.seed)
    loader = DataLoader(
        dataset, size, shuffle=True, drop_last=True, generator=order, collate_fn=getattr(dataset, "collate_fn", None)
    )
    init_seeds(trainer.args.seed)
    for batch in islice(loader, BATCHES):
        yield trainer.preprocess_batch(batch)


def promise(block: Block, channels: int, maps: Sequence[tuple[Tensor, Tensor]], setting: Setting) -> float:
    """A block's worth, see the module."""
    init_seeds(setting.recipe.seed)
    module = Attend(channels, block.name, dict(block.options)).to(setting.device).train()
    assert module.gamma is not None
    nn.init.ones_(module.gamma)  # with gamma at one its gradient is that at zero, and theta's is not nothing
    theta = [p for p in module.parameters() if p is not module.gamma and p.requires_grad]
    gammas, thetas = list[Tensor](), list[Tensor]()
    for x, gradient in maps:
        parts = torch.autograd.grad((module(x) * gradient).sum(), [module.gamma, *theta], allow_unused=True)
        gammas.append(parts[0])
        thetas.append(torch.cat([p.flatten() for p in parts[1:] if p is not None] or [parts[0]]))
    return (length_of_mean(gammas) * length_of_mean(thetas)) ** 0.5


def length_of_mean(draws: Sequence[Tensor]) -> float:
    """Length of the mean that these vectors are noisy draws of, by products of different draws: noise has none."""
    if len(draws) < 2:
        return float(draws[0].norm()) if draws else 0.0
    total, n = torch.stack(list(draws)).sum(0), len(draws)
    own = sum(float(d @ d) for d in draws)
    return max(float(total @ total) - own, 0.0) ** 0.5 / (n * (n - 1)) ** 0.5


@torch.inference_mode()
def extra_latency(block: Block, channels: int, size: int, setting: Setting) -> float:
    """Median over pairs of the folded block's time over the base's, both in torch, one after the other."""
    base = setting.fused if setting.fused.backend == "torch" else None
    module = Attend(channels, block.name, dict(block.options)).eval()
    if module.gamma is not None:
        nn.init.constant_(module.gamma, 0.1)
    module.fold()
    dtype = base.image_dtype if base else torch.float32
    module = module.to(setting.device, dtype)
    x = torch.rand(1, channels, size, size).to(setting.device, dtype)
    runner = cost.Runner(module, "torch", setting.device, str(dtype), "none", channels, dtype)
    image = torch.rand(1, base.channels if base else 3, setting.recipe.imgsz, setting.recipe.imgsz)
    assert setting.base_cost.latency is not None
    with locks.Steps(cache_folder(), str(setting.device)).silent():
        for _ in range(WARMUP):
            cost.once(runner, x)
        ratios = []
        for _ in range(RUNS):
            base_ms = cost.once(base, image.to(setting.device, dtype)) if base else setting.base_cost.latency.ms
            ratios.append(cost.once(runner, x) / base_ms)
    return statistics.median(ratios)


def told(cells: Sequence[Cell], images: int, started: float) -> str:
    """One line for people."""
    blocks, sites = ({getattr(c, name) for c in cells} for name in ("block", "site"))
    seconds = time.monotonic() - started
    return (
        f"looked at {len(blocks)} blocks at {len(sites)} sites ({len(cells)} pairs): the latency of each alone, and "
        f"by the base's gradient what it could do there; {images} images, no training, {seconds:.0f} s"
    )
