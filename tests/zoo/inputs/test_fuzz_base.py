"""Spoiled bases, seeds fixed: each is one P2Error, or it is measured to the very loss of the sound one.

Configs, weights (names, shapes, bytes), tokenizers and generation settings. Whatever is refused after the dry run could
only be known by loading; nothing ends in a traceback, and no broken input is measured as if it were whole.
"""

import itertools
import json
import random
import shutil

import pytest

from leaderboard.errors import P2Error
from zoo.estimate.dry_run import estimate
from zoo.inputs.base_model import load_model
from zoo.inputs.tokenizer import check_ids, load_tokenizer
from zoo.recipe.files import load_recipe

JUNK = (None, "x", "", -1, 0, 2, 10**40, 1e40, 3.5, True, [], [1], {}, {"a": 1}, [None], "\ud800", float("nan"))
# Any number or name of the right kind is another sound model: nothing in the files says which was meant.
ANOTHER = {"rope_theta", "rms_norm_eps", "hidden_act", "sliding_window", "rope_parameters", "rope_scaling"}
SAMPLE = pytest.mark.sample
TEXT = "alpha beta\n 123 don't  gamma"


@pytest.fixture
def base(bench_folder, tmp_path):
    return shutil.copytree(bench_folder / "model", tmp_path / "spoilt")


def outcome(base, bench_folder):
    """The loss of a base on a sentence, or why it is refused; what a dry run approves is refused no more."""
    import torch

    recipe = load_recipe(bench_folder / "recipe.yaml", [f"model.name={base}", "prune.method=none", "prune.rate=null"])
    try:
        source = estimate(recipe).source
    except P2Error as error:
        return None, str(error)
    tokenizer = load_tokenizer(base)
    check_ids(tokenizer, base, [TEXT], source.shape.vocab)
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    model = load_model(base, "fp32").eval()
    with torch.no_grad():
        return float(model(input_ids=ids, labels=ids).loss), ""


def spoil_json(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def judge(base, bench_folder, sound, how):
    loss, said = outcome(base, bench_folder)
    assert "\n" not in said, how
    assert loss is None or loss == pytest.approx(sound, abs=1e-6), how


@pytest.mark.slow
@pytest.mark.parametrize("part", [pytest.param(0, marks=SAMPLE), 1, 2])
def test_configs(base, bench_folder, part):
    sound, _ = outcome(base, bench_folder)
    path = base / "config.json"
    good = path.read_text()
    keys = [*json.loads(good), "rope_theta", "rope_scaling", "sliding_window", "torch_dtype", "layer_types", "auto_map"]
    for key, junk in list(itertools.product(keys, JUNK))[part::3]:
        path.write_text(good)
        spoil_json(path, lambda data, key=key, junk=junk: data.update({key: junk}))
        loss, _ = outcome(base, bench_folder)
        assert loss is None or key in ANOTHER or loss == pytest.approx(sound, abs=1e-6), (key, junk)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [pytest.param(0, marks=SAMPLE), 1, 2, 3])
@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"])
def test_bytes_of_small_files(base, bench_folder, name, seed):
    """A file that was cut, or in which a byte is another; where it still is what it was, so is the loss."""
    sound, _ = outcome(base, bench_folder)
    path = base / name
    good = path.read_bytes()
    for number in range(40):
        draw = random.Random(f"{name} {seed} {number}")
        at, how = draw.randrange(1, len(good)), draw.choice(["cut", "flip", "drop", "insert"])
        spoilt = {
            "cut": good[:at],
            "flip": good[:at] + bytes([good[at] ^ draw.randrange(1, 256)]) + good[at + 1 :],
            "drop": good[: at - 1] + good[at + draw.randrange(4) :],
            "insert": good[:at] + draw.choice([b"\0", b'"', b"{", b"\xff", b"[", b"9"]) + good[at:],
        }[how]
        path.write_bytes(spoilt)
        loss, _ = outcome(base, bench_folder)
        assert how != "cut" or loss is None or spoilt.strip() == good.strip(), (name, seed, number)
        assert loss is None or loss < 1.1 * max(sound, 5.6), (name, seed, number)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [pytest.param(0, marks=SAMPLE), 1, 2, 3])
def test_weights(base, bench_folder, seed):
    """Tensors gone, renamed, cast, cut, not finite; the header of the file spoilt; the file cut."""
    import torch
    from safetensors.torch import load_file, save_file

    sound, _ = outcome(base, bench_folder)
    path = base / "model.safetensors"
    good, tensors = path.read_bytes(), load_file(path)
    draw = random.Random(seed)
    ways = {
        "gone": lambda t, n: t.pop(n),
        "renamed": lambda t, n: t.update({n + draw.choice(["_x", ".0", ""]) + "y": t.pop(n)}),
        "cast": lambda t, n: t.update({n: t[n].to(draw.choice([torch.int64, torch.uint8, torch.bool]))}),
        "cut": lambda t, n: t.update({n: t[n][:-1].contiguous()}),
        "turned": lambda t, n: t.update({n: t[n].reshape(1, *t[n].shape)}),
        "odd": lambda t, n: (
            t[n].view(-1).__setitem__(draw.randrange(t[n].numel()), draw.choice([float("nan"), float("inf")]))
        ),
        "more": lambda t, n: t.update({n.replace("layers.0", "layers.9") + ".more": t[n].clone()}),
    }
    for name, how in itertools.product(draw.sample(sorted(tensors), 6), ways):
        spoilt = {key: value.clone() for key, value in tensors.items()}
        ways[how](spoilt, name)
        save_file(spoilt, path, metadata={"format": "pt"})
        assert outcome(base, bench_folder)[0] is None, (name, how)
    header = int.from_bytes(good[:8], "little")
    for number in range(60):
        at, byte = draw.randrange(8 + header), draw.randrange(1, 256)
        path.write_bytes(good[:at] + bytes([good[at] ^ byte]) + good[at + 1 :])
        judge(base, bench_folder, sound, (at, byte, number))
    for _ in range(10):
        path.write_bytes(good[: draw.randrange(len(good))])
        assert outcome(base, bench_folder)[0] is None
