"""Licences of base models as data, and what each asks of a model made from one.

A published model inherits its base's licence. Name, sentence, notice and licence text that the licence asks for are
put there by construction, or the publication is refused. Sources: the licence texts; this is no legal advice.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from leaderboard.errors import P2Error, unknown_name

TERMS = Path(__file__).parent / "terms"  # licence texts that ship with p2zoo, <id>.txt


@dataclass(frozen=True, kw_only=True)
class Licence:
    """What a card says of a licence (`id`, `card_name`, `link`), and what the licence asks for."""

    id: str  # the Hub's `license`; "other" needs `card_name`
    title: str
    link: str
    card_name: str | None = None
    prefix: str = ""  # the model's name begins with it
    shown: str = ""  # stands prominently in the card
    notice: str = ""  # stands in a NOTICE file
    commercial: bool = True
    text_in: str = ""  # a repository of the Hub that has its text, where that does not ship with p2zoo


def _llama(version: str, prefix: str = "Llama", made_with: str = "Llama") -> Licence:
    name = f"{'Meta ' if version == '3' else ''}Llama {version}"
    return Licence(
        id=f"llama{version}",
        title=f"{name} Community License",
        link=f"https://www.llama.com/llama{version.replace('.', '_')}/license/",
        prefix=prefix,
        shown=f"Built with {made_with}",
        notice=f"{name} is licensed under the {name} Community License, Copyright © Meta Platforms, Inc. "
        "All Rights Reserved.",
    )


def _qwen(kind: str, card_name: str, model: str, commercial: bool) -> Licence:
    return Licence(
        id="other",
        title=f"{kind} AGREEMENT",
        link=f"https://huggingface.co/Qwen/{model}/blob/main/LICENSE",
        text_in=f"Qwen/{model}",
        card_name=card_name,
        shown="Built with Qwen",
        notice=f"Qwen is licensed under the {kind} AGREEMENT, Copyright (c) Alibaba Cloud. All Rights Reserved.",
        commercial=commercial,
    )


LICENCES: dict[str, Licence] = {
    "apache-2.0": Licence(
        id="apache-2.0", title="Apache License 2.0", link="https://www.apache.org/licenses/LICENSE-2.0"
    ),
    "mit": Licence(id="mit", title="MIT License", link="https://opensource.org/license/mit"),
    "llama3": _llama("3", prefix="Llama-3", made_with="Meta Llama 3"),
    "llama3.1": _llama("3.1"),
    "llama3.2": _llama("3.2"),
    "llama3.3": _llama("3.3"),
    "gemma": Licence(
        id="gemma",
        title="Gemma Terms of Use",
        link="https://ai.google.dev/gemma/terms",
        shown="A modified Gemma: all weights were changed. Its use is restricted by the Gemma Prohibited Use Policy, "
        "https://ai.google.dev/gemma/prohibited_use_policy, to which every recipient agrees",
        notice="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
    ),
    "qwen-research": _qwen("Qwen RESEARCH LICENSE", "qwen-research", "Qwen2.5-3B", commercial=False),
    "qwen": _qwen("Qwen LICENSE", "qwen", "Qwen2.5-72B", commercial=True),
}


@dataclass(frozen=True)
class Base:
    """Base models whose name fits `pattern`, at `revision` if one is named, have this licence."""

    pattern: str
    licence: str
    revision: str | None = None


BASES: tuple[Base, ...] = (  # the first that fits counts
    Base("meta-llama/Llama-3.3-*", "llama3.3"),
    Base("meta-llama/Llama-3.2-*", "llama3.2"),
    Base("meta-llama/Llama-3.1-*", "llama3.1"),
    Base("meta-llama/Meta-Llama-3.1-*", "llama3.1"),
    Base("meta-llama/Meta-Llama-3-*", "llama3"),
    Base("Qwen/Qwen2.5-3B*", "qwen-research"),
    Base("Qwen/Qwen2.5-72B*", "qwen"),
    *(Base(f"Qwen/Qwen2.5-{size}B*", "apache-2.0") for size in ("0.5", "1.5", "7", "14", "32")),
    Base("Qwen/Qwen3-*", "apache-2.0"),
    Base("HuggingFaceTB/SmolLM2-*", "apache-2.0"),
    Base("HuggingFaceTB/SmolLM3-*", "apache-2.0"),
    Base("allenai/OLMo-2-*", "apache-2.0"),
    Base("google/gemma-3-*", "gemma"),
    Base("EleutherAI/pythia-*", "apache-2.0"),
    Base("EleutherAI/gpt-neox-20b", "apache-2.0"),
    Base("mistralai/Mistral-7B-v0.*", "apache-2.0"),
    # The bundled models; a folder's name proves nothing, so the hash of its content stands beside it.
    Base("tiny-llama-3", "apache-2.0", "b7e3dd154b8686e7fd01352829daa669d4f9ae291036b9dc07e8cce038799600"),
    Base("tiny-qwen-2.5", "apache-2.0", "542f09f2f9216ff9e890a8c978c8d3e0bd70b46311664f625fc7bbacd807b797"),
)


def licence_of(base: str, revision: str | None, given: str | None = None) -> Licence:
    """The licence of a base model. `given` is the user's word where the base is not known here.

    Raises P2Error for an unknown base without a word, and for a word that contradicts what is known.
    """
    if given is not None and given not in LICENCES:
        raise unknown_name("licence", given, LICENCES, "--license")
    known = next((b.licence for b in BASES if fnmatchcase(base, b.pattern) and b.revision in (None, revision)), None)
    if known is None and given is None:
        raise P2Error(
            f"publish: the licence of the base model {base} is not known here; a pruned model inherits it. "
            f"Name it with --license. Known: {', '.join(LICENCES)}."
        )
    if known is not None and given not in (None, known):
        raise P2Error(f"--license: got {given}, but {base} is under {known}, which its pruned models inherit; drop it.")
    return LICENCES[known or given or ""]


def check_name(name: str, licence: Licence) -> None:
    """Refuse a model name that the licence does not allow."""
    if not name.startswith(licence.prefix):
        raise P2Error(
            f"--name: got {name!r}, but the {licence.title} asks that the name begins with {licence.prefix!r}."
        )


def travelling(licence: Licence, folder: Path) -> dict[str, Path | bytes]:
    """LICENSE and NOTICE files to publish: the base's own where `folder` has them, else the ones that ship here."""
    found: dict[str, Path | bytes] = {
        path.name: path for pattern in ("LICENSE*", "NOTICE*") for path in sorted(folder.glob(pattern))
    }
    if not any(name.startswith("LICENSE") for name in found):
        bundled = TERMS / f"{licence.id}.txt"
        if not bundled.is_file():
            copy = f"copy the LICENSE file of the base model to {folder / 'LICENSE'}"
            fetch = f"`hf download {licence.text_in} LICENSE --local-dir {folder}` fetches it"
            raise P2Error(
                f"{folder}: has no LICENSE file, and the text of the {licence.title} must travel with the model; "
                f"{fetch if licence.text_in else copy}, then publish again. Its text: {licence.link}"
            )
        found["LICENSE"] = bundled
    if licence.notice:
        before = b"".join(path.read_bytes() for path in sorted(folder.glob("NOTICE*")))
        if licence.notice.encode() not in before:
            found["NOTICE"] = before + (b"\n" if before else b"") + licence.notice.encode() + b"\n"
    return found
