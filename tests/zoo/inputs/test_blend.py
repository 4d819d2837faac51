"""A blend of texts: shares of bytes as the recipe says, the same each time; no shares are refused in words."""

import pytest
import yaml

from leaderboard.errors import P2Error
from zoo.estimate.dry_run import estimate
from zoo.inputs.base_model import load_tokenizer
from zoo.inputs.gather import gather
from zoo.inputs.text import documents, fingerprint
from zoo.recipe.files import load_recipe, parse_recipe, to_yaml
from zoo.run.finished import portable


def recipe(folder, blend, *more):
    return load_recipe(folder / "recipe.yaml", ["data.train.file=null", f"data.train.blend={blend}", *more])


@pytest.fixture
def texts(bench_folder, tmp_path):
    (tmp_path / "a.txt").write_text("\0".join(f"a{i} {'x' * 40}" for i in range(400)))
    (tmp_path / "b.txt").write_text("\0".join(f"b{i} {'y' * (i % 90)}" for i in range(400)))
    return tmp_path


def blended(texts, a=0.75, b=0.25):
    return f"[{{file: {texts}/a.txt, weight: {a}}}, {{file: {texts}/b.txt, weight: {b}}}]"


def test_the_shares_of_bytes_are_those_of_the_recipe_at_every_moment(bench_folder, texts):
    spec = recipe(bench_folder, blended(texts)).data.train
    read = list(documents(spec, bench_folder, "data.train", seed=3))
    assert read == list(documents(spec, bench_folder, "data.train", seed=3))
    assert read != list(documents(spec, bench_folder, "data.train", seed=4))
    sizes = {"a": 0, "b": 0}
    for document in read:
        sizes[document[0]] += len(document) + 1
        assert abs(0.25 * sizes["a"] - 0.75 * sizes["b"]) <= 0.75 * 95  # a document at most
    assert {"a", "b"} == {document[0] for document in read}
    assert sum(document[0] == "a" for document in read) == 400  # it ends where the first of them does
    assert fingerprint(spec, bench_folder, "").count(",") == 1


def test_a_blend_is_planned_gathered_and_published_as_any_text(bench_folder, texts):
    one = recipe(bench_folder, blended(texts))
    assert one.data.train.label == "0.75*a.txt+0.25*b.txt"
    assert estimate(one).heldout_in_train == 0
    tokenizer = load_tokenizer(bench_folder / "model")
    pins = {part: fingerprint(getattr(one.data, part), one.folder, part) for part in ("train", "heldout")}
    first, again = (gather(one, tokenizer, pins, texts / name / "train").train for name in ("one", "two"))
    assert first.sha256 == again.sha256
    letters = first.ids.ravel().tolist()
    assert 0.5 < letters.count(tokenizer.convert_tokens_to_ids("x")) / len(letters) < 0.75
    assert portable(one).sha256 == one.sha256
    assert str(texts) not in to_yaml(portable(one))
    copied = parse_recipe(yaml.safe_load(to_yaml(portable(one))), texts)
    assert copied.sha256 == one.sha256


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (0.7, 0.7, r"weights add up to 1\.4 \(0\.7 \+ 0\.7\), allowed are shares that add up to 1"),
        (-0.2, 1.2, r"data\.train\.blend\[0\]\.weight: got -0\.2, allowed is a share in \(0, 1\)"),
        ("null", 1, r"blend\[0\]\.weight: got none"),
        (0.5, 0.5, r"data\.train\.blend: take stands beside it"),
    ],
)
def test_weights_that_are_no_shares_are_refused(bench_folder, texts, a, b, message):
    more = ["data.train.take=3"] if a == b == 0.5 else []
    with pytest.raises(P2Error, match=message):
        recipe(bench_folder, blended(texts, a, b), *more)
