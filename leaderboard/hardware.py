"""What GPUs do and cost, as data: bf16 peak, and a round on-demand price that you should replace by your own."""

from dataclasses import dataclass

from leaderboard.errors import unknown_name

MFU = 0.40  # TRL with compile and no gradient checkpointing: 39 % measured on an H100, 1.24 B parameters
SPARSE_COMPUTE = {"2:4", "unstructured"}  # masked weights still cost dense compute in training


@dataclass(frozen=True)
class Gpu:
    """Dense bf16 peak in FLOP/s and a typical on-demand price in US dollars an hour (late 2026)."""

    peak: float
    price: float


GPUS = {
    "h200": Gpu(989e12, 3.8),
    "h100": Gpu(989e12, 3.0),
    "a100": Gpu(312e12, 1.8),
    "l40s": Gpu(181e12, 1.2),
    "rtx-4090": Gpu(165e12, 0.5),
}


def gpu_hours(
    tokens: float, n0: float, rate: float, method: str, gpu: str, price: float | None = None
) -> tuple[float, float]:
    """GPU-hours and cost in US dollars of post-training: 6 FLOPs a parameter and token at 40 % utilisation.

    `price` is in US dollars an hour; None takes the GPU's typical one. For depth or width with 2:4 an upper bound: what
    the structured part saves is not told by the total rate.
    """
    if gpu not in GPUS:
        raise unknown_name("gpu", gpu, GPUS, "budget")
    parameters = n0 if SPARSE_COMPUTE & set(method.split("+")) else n0 * (1 - rate)
    hours = tokens * 6 * parameters / (GPUS[gpu].peak * MFU) / 3600
    return hours, hours * (GPUS[gpu].price if price is None else price)
