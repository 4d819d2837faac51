"""What the licence of a base model asks for is there, or nothing is published."""

from pathlib import Path

import pytest

from leaderboard.errors import P2Error
from zoo.publish.licences import BASES, LICENCES, TERMS, licence_of
from zoo.publish.publish import plan

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("base", "key"),
    [
        ("meta-llama/Llama-3.2-1B", "llama3.2"),
        ("meta-llama/Llama-3.1-8B", "llama3.1"),
        ("meta-llama/Meta-Llama-3-8B", "llama3"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama3.3"),
        ("Qwen/Qwen2.5-0.5B", "apache-2.0"),
        ("Qwen/Qwen2.5-7B", "apache-2.0"),
        ("Qwen/Qwen2.5-3B", "qwen-research"),
        ("Qwen/Qwen2.5-72B", "qwen"),
        ("Qwen/Qwen3-4B-Base", "apache-2.0"),
        ("HuggingFaceTB/SmolLM3-3B-Base", "apache-2.0"),
        ("allenai/OLMo-2-0425-1B", "apache-2.0"),
        ("EleutherAI/pythia-1.4b", "apache-2.0"),
        ("google/gemma-3-270m", "gemma"),
    ],
)
def test_bases_that_are_known(base, key):
    assert licence_of(base, "any") is LICENCES[key]
    assert licence_of(base, "any", key) is LICENCES[key]
    with pytest.raises(P2Error, match="inherit"):
        licence_of(base, "any", "mit")


def test_a_base_that_is_unknown_needs_a_word():
    with pytest.raises(P2Error, match="Name it with --license"):
        licence_of("someone/model", None)
    assert licence_of("someone/model", None, "llama3.2").prefix == "Llama"
    with pytest.raises(P2Error, match=r"Did you mean 'llama3\.2'"):
        licence_of("someone/model", None, "llama-3.2")


def test_the_bundled_models_are_known_by_their_content():
    from zoo.inputs.base_model import resolve
    from zoo.recipe.spec import ModelSpec

    for name in ("tiny-llama-3", "tiny-qwen-2.5"):
        source = resolve(ModelSpec(name=f"./{name}"), ROOT / "recipes" / "quickstart")
        assert licence_of(name, source.revision).id == "apache-2.0"
        with pytest.raises(P2Error, match="not known"):
            licence_of(name, "another folder of that name")


@pytest.mark.parametrize("version", ["3", "3.1", "3.2", "3.3"])
def test_the_shipped_llama_texts_ask_for_what_is_done(version):
    """The prefix, the sentence and the notice that we set are the ones in the licence's own text."""
    text = " ".join((TERMS / f"llama{version}.txt").read_text(encoding="utf-8").replace("**", "").split())
    licence = LICENCES[f"llama{version}"]
    assert f"LLAMA {version} COMMUNITY LICENSE AGREEMENT" in text
    assert f"“{licence.notice}”" in text
    assert f"“{licence.shown}”" in text
    prefix = "Llama 3" if version == "3" else "Llama"
    assert f"“{prefix}” at the beginning of any such AI model name" in text


def test_every_base_has_a_licence_and_the_shipped_text_is_our_own():
    assert {base.licence for base in BASES} <= set(LICENCES)
    assert (TERMS / "apache-2.0.txt").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_llama_name_notice_sentence_and_licence(runs):
    folder = runs("depth", "meta-llama/Llama-3.2-1B")
    assert plan(folder, "ann").files["LICENSE"] == TERMS / "llama3.2.txt"
    text = folder / "model" / "LICENSE.txt"
    text.write_text("LLAMA 3.2 COMMUNITY LICENSE AGREEMENT")
    try:
        planned = plan(folder, "ann")
        with pytest.raises(P2Error, match="begins with 'Llama'"):
            plan(folder, "ann", name="my-model")
    finally:
        text.unlink()
    assert planned.repo == "ann/Llama-3.2-1B-depth-0.20"
    assert planned.files["LICENSE.txt"] == text
    assert b"Llama 3.2 is licensed under the Llama 3.2 Community License, Copyright" in planned.files["NOTICE"]
    card = planned.card().decode()
    assert "**Built with Llama**" in card
    assert "license: llama3.2\n" in card
    assert "base_model: meta-llama/Llama-3.2-1B" in card


def test_a_llama_by_another_name_gets_the_prefix_and_qwen_says_non_commercial(runs):
    folder = runs("depth", "someone/tuned")
    with pytest.raises(P2Error, match=r"must travel with the model; `hf download Qwen/Qwen2\.5-3B LICENSE --local-dir"):
        plan(folder, "ann", licence="qwen-research")
    with pytest.raises(P2Error, match=r"copy the LICENSE file of the base model to .*/model/LICENSE, then publish"):
        plan(folder, "ann", licence="mit")
    (folder / "model" / "LICENSE").write_text("terms")
    try:
        assert plan(folder, "ann", licence="llama3.2").repo == "ann/Llama-tuned-depth-0.20"
        assert plan(folder, "ann", licence="llama3").repo == "ann/Llama-3-tuned-depth-0.20"
        card = plan(folder, "ann", licence="qwen-research").card().decode()
    finally:
        (folder / "model" / "LICENSE").unlink()
    assert "license: other\nlicense_name: qwen-research\nlicense_link: https" in card
    assert "It allows no commercial use." in card
    assert "**Built with Qwen**" in card
