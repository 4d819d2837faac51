"""What a run asks of the disk, against what a run puts there."""

import pytest
from rich.console import Console

from leaderboard.errors import RunFailed
from zoo.estimate.disk import BLOCK_BYTES, check_room, disk_bytes
from zoo.estimate.dry_run import estimate
from zoo.recipe.catalog import find_recipe
from zoo.recipe.files import load_recipe
from zoo.run.pipeline import run


def test_the_folder_of_an_8b_with_8_bit_moments():
    """6.0 B parameters are left, 12 bytes each (2 x 4.03 + 2 + 2), and 0.5 B tokens of 8 bytes."""
    found = estimate(load_recipe(find_recipe("llama-3.1-8b/depth-0.25")))
    assert found.disk_bytes == pytest.approx(found.plan.n_pruned * 12.06 + 8 * found.tokens, rel=0.001)
    assert 70e9 < found.disk_bytes < 80e9


@pytest.mark.slow
def test_a_run_writes_what_was_asked_for(bench_folder, tmp_path):
    """Weights, moments and blocks; what else is there (tokenizer, states of the trainer) is small for a real model."""
    recipe = load_recipe(bench_folder / "recipe.yaml", ["train.tokens=512"])
    out, written = tmp_path / "run", {}

    def look():
        for path in (out / ".work").rglob("*"):
            kind = path.parent.name.split("-")[0]
            if path.suffix in (".safetensors", ".npy", ".pt") and path.stem != "rng_state":
                written[kind, path.name] = path.stat().st_size

    run(recipe, out, console=Console(quiet=True), saved=look)
    size = {kind: sum(n for (of, _), n in written.items() if of == kind) for kind in ("checkpoint", "pruned", "train")}
    final = (out / "model" / "model.safetensors").stat().st_size
    most = 2 * size["checkpoint"] + size["pruned"] + size["train"] + final
    assert size["train"] == pytest.approx(BLOCK_BYTES * 512, abs=512)
    assert most == pytest.approx(estimate(recipe).disk_bytes, rel=0.1)


def test_a_full_disk_is_refused_and_what_is_there_already_counts(tmp_path):
    needed = disk_bytes(
        estimate(load_recipe(find_recipe("quickstart/depth"))).plan.target,
        load_recipe(find_recipe("quickstart/depth")).train,
    )
    check_room(tmp_path, needed)
    with pytest.raises(RunFailed, match=r"needs about 1000000000\.0 GB, .* choose another --out"):
        check_room(tmp_path, 10**18)
    with (tmp_path / "checkpoint").open("wb") as file:
        file.truncate(10**12)  # a hole: 1 TB that takes no room
    check_room(tmp_path, 10**12)
