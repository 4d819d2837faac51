"""What GPUs do, hold and cost, as data: bf16 peak, memory, and a typical list price an hour in late 2026.

Prices move and are nobody's offer: give your own with `--price`. `FLAVORS` are the machines of Hugging
Face Jobs by their names there, at the prices of the Hub's page on Jobs then.
"""

import re
from dataclasses import dataclass

from leaderboard.errors import P2Error, unknown_name
from leaderboard.logs.contract import CLM, DISTILL
from leaderboard.logs.methods import is_masked

PRICES_OF = "late 2026"
USUAL_GPU = "h100"  # where none is named
MFU = 0.40  # TRL with compile and no gradient checkpointing: 39 % measured on an H100, 1.24 B parameters
MOST_PRICE = 1_000_000  # US dollars a GPU-hour


@dataclass(frozen=True)
class Gpu:
    """Dense bf16 peak in FLOP/s, memory in bytes, a typical on-demand price in US dollars an hour (late 2026)."""

    peak: float
    memory: float
    price: float


GPUS = {
    "h200": Gpu(989e12, 141e9, 3.8),
    "h100": Gpu(989e12, 80e9, 3.0),
    "a100": Gpu(312e12, 80e9, 1.8),
    "l40s": Gpu(181e12, 48e9, 1.2),
    "rtx-4090": Gpu(165e12, 24e9, 0.5),
}


@dataclass(frozen=True)
class Flavor:
    """A machine of Hugging Face Jobs: `count` GPUs of a kind in GPUS, US dollars an hour for all of them."""

    gpu: str
    count: int
    price: float


FLAVORS = {
    "l40sx1": Flavor("l40s", 1, 1.8),
    "l40sx4": Flavor("l40s", 4, 8.3),
    "l40sx8": Flavor("l40s", 8, 23.5),
    "a100-large": Flavor("a100", 1, 2.5),
    "a100x4": Flavor("a100", 4, 10.0),
    "a100x8": Flavor("a100", 8, 20.0),
    "h200": Flavor("h200", 1, 5.0),
    "h200x2": Flavor("h200", 2, 10.0),
    "h200x4": Flavor("h200", 4, 20.0),
    "h200x8": Flavor("h200", 8, 40.0),
}
ORIGIN = (
    f"6 FLOPs a parameter and token at {MFU:.0%} of the card's bf16 peak, which is what TRL with compile reached on "
    "one H100 with 1.24 B parameters; pruning and evaluations are not in it"
)


def gpu_hours(
    tokens: float,
    n0: float,
    rate: float,
    method: str,
    gpu: str,
    price: float | None = None,
    where: str = "budget",
    objective: str = CLM,
) -> tuple[float, float]:
    """GPU-hours and cost in US dollars of post-training: 6 FLOPs a parameter and token at 40 % utilisation.

    `price` is in US dollars an hour; None takes the GPU's typical one. For depth or width with 2:4 an upper bound: what
    the structured part saves is not told by the total rate. A distillation runs its teacher, the model before pruning,
    forward beside it: 2 FLOPs more for each of its `n0` parameters; of weights that LoRA freezes no gradient is taken,
    so 4 in place of 6. Raises P2Error as `check_offer` does.
    """
    gpu = check_offer(gpu, price, where) or gpu
    parameters = n0 if is_masked(method) else n0 * (1 - rate)  # masked weights still cost dense compute
    teacher = 2 * n0 if objective.startswith(DISTILL) else 0.0
    each = 4 if "+lora" in objective else 6
    hours = tokens * (each * parameters + teacher) / (GPUS[gpu].peak * MFU) / 3600
    return hours, hours * (GPUS[gpu].price if price is None else price)


def gpu_key(name: str | None) -> str | None:
    """Key of GPUS as people write it: H100, RTX 4090; what is not there stays as it is."""
    return None if name is None else next((k for k in GPUS if k == re.sub(r"[ _]+", "-", name.strip().lower())), name)


def check_offer(gpu: str | None, price: float | None, where: str = "budget") -> str | None:
    """The key of `gpu`. Raises P2Error on one that is not in the table, or a price that is none; `where` begins it."""
    gpu = gpu_key(gpu)
    if gpu is not None and gpu not in GPUS:
        raise unknown_name("gpu", gpu, GPUS, where)
    if price is not None and not 0 <= price <= MOST_PRICE:
        raise P2Error(f"{where}: price is {price:g}; give US dollars a GPU-hour, 0 to {MOST_PRICE:,}.")
    return gpu


def gpu_named(device: str) -> str | None:
    """Key of GPUS of a card by its full name, e.g. `NVIDIA H100 80GB HBM3`; None for one whose peak is not listed.

    PCIe and NVL editions run at lower clocks than the peak in the table, so they are not in it.
    """
    words = re.split(r"[^a-z0-9]+", device.lower())
    if {"pcie", "nvl", "laptop"} & set(words) and "a100" not in words:
        return None
    joined = f"-{'-'.join(words)}-"
    return next((name for name in GPUS if f"-{name}-" in joined), None)
