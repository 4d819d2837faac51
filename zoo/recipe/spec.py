"""A recipe: one experiment as frozen data. Model, pruning, text, training, evaluation.

Tokens and parameters are counts, rates shares of all parameters. Reading YAML is files.py; what a
recipe costs is dry_run.py. Everything that a recipe alone can get wrong is refused here.
"""

import hashlib
import math
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from leaderboard.errors import P2Error, unknown_name
from leaderboard.logs.contract import CLM, DISTILL, OBJECTIVES, PACKINGS, WRAPPED, canonical_json
from leaderboard.logs.methods import CONTROL
from leaderboard.logs.rules.texts import HUB_NAME
from leaderboard.shapes import ARCHITECTURES
from zoo.models.sizes import LETTERS, SIZES
from zoo.pruning.spec import PruneSpec
from zoo.recipe.grid import GRIDS
from zoo.recipe.strict import plain

# A schedule, and its name and settings in transformers. Plain cosine and linear end at 0.
SCHEDULES: dict[str, tuple[str, dict[str, Any]]] = {
    "constant": ("constant_with_warmup", {}),
    "cosine": ("cosine", {}),
    "cosine-to-10%": ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
    "linear": ("linear", {}),
    "wsd": ("warmup_stable_decay", {"decay_type": "linear"}),  # its last steps: WSD_DECAY of them
}
WSD = "wsd"
WSD_DECAY = 0.2  # share of the steps in which a whole run decays to 0; a branch decays from its trunk on
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
_REPORT = re.compile(r"trackio(:\w[\w.-]*/\w[\w.-]*)?", re.ASCII)
PRETRAIN = "pretrain"  # what the log says of a model trained from random weights
OPTIMIZERS = ("adamw", "adamw-8bit")
PRECISIONS = ("fp32", "fp32-master-bf16-autocast", "bf16-master")


@dataclass(frozen=True, kw_only=True)
class ScratchSpec:
    """A model with random weights: a family's architecture in a size of zoo.models.sizes.SIZES."""

    family: str
    size: str
    tokenizer: str | None = (
        None  # folder that has one, written with a leading `./` or `../`; None: trained on data.train
    )
    vocab_size: int = 16_384

    def __post_init__(self) -> None:
        known = {family.name for family in ARCHITECTURES.values()}
        if self.family not in known:
            raise unknown_name("family", self.family, known, "model.scratch.family")
        if self.size not in SIZES:
            raise unknown_name("size", self.size, SIZES, "model.scratch.size")
        if self.vocab_size < LETTERS:
            raise P2Error(
                f"model.scratch.vocab_size: got {self.vocab_size}, allowed is {LETTERS} or more: every byte is a token."
            )


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The model before pruning: a Hub id, or a folder beside the recipe written with a leading `./` or `../`.

    Of a run folder it is the model that the run made.
    Such a path to a recipe file means the base model that recipe makes, which has `scratch` and a name of its own.
    """

    name: str
    revision: str | None = None  # commit, tag or branch; for Hub ids
    family: str | None = None  # a key of leaderboard.shapes.ARCHITECTURES; None: told by the config
    base: str | None = None  # of a folder: the Hub model that it is, whose name and licence count
    base_tokens: int | None = None  # tokens it was trained on, where that is known
    scratch: ScratchSpec | None = None  # random weights, for `p2zoo pretrain`

    def __post_init__(self) -> None:
        if self.scratch is not None and (self.name.startswith((".", "/")) or "/" in self.name or self.revision):
            raise P2Error(
                "model.name: a model trained from scratch takes a plain name and no revision, e.g. llama-3-s1."
            )
        if self.base_tokens is not None and (self.base_tokens < 1 or self.scratch is not None):
            raise P2Error(
                f"model.base_tokens: got {self.base_tokens}, allowed is 1 or more, of a model that was trained before; "
                "leave it out where it is not known."
            )
        if self.base is not None:
            _check_hub_id("model.base", self.base, "model.name: ./folder, and base is the Hub model that it is")
            if not self.local or self.scratch is not None or self.made_by is not None:
                raise P2Error("model.base: says which Hub model a folder is; remove it, or let model.name be ./folder.")
        if not self.local:
            _check_hub_id("model.name", self.name, "./folder")
        if self.local and self.revision is not None:
            raise P2Error("model.revision: a folder has none; remove it, or name a model on the Hub.")

    @property
    def local(self) -> bool:
        return self.name.startswith((".", "/")) or self.scratch is not None

    @property
    def made_by(self) -> str | None:
        """The recipe that makes this base model, where one is named in place of a folder."""
        return self.name if self.name.startswith((".", "/")) and self.name.endswith((".yaml", ".yml")) else None

    @property
    def label(self) -> str:
        """The name that goes into the log: a Hub id, or the last part of a path, which no rewriting changes."""
        if self.base is not None:
            return self.base
        path = PurePosixPath(self.name)
        if not self.local:
            return self.name
        name = path.stem if self.made_by else path.name
        return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"  # a log takes names of repositories


@dataclass(frozen=True, kw_only=True)
class TextSpec:
    """Documents: files beside the recipe (one, a folder or a pattern) or a data set on the Hub, one slice of them."""

    file: str | None = None
    dataset: str | None = None
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    column: str = "text"
    skip: int = 0  # documents passed over at the start
    take: int | None = None  # documents used after those; None: all
    noise: float | None = None  # share of each document's lines that change places; for data.train
    blend: tuple["TextSpec", ...] | None = None  # texts in place of one, each with its weight; for data.train
    weight: float | None = None  # of a text in a blend: its share of the bytes

    def __post_init__(self) -> None:
        if self.blend is not None:
            _check_blend(self)
            return
        if (self.file is None) == (self.dataset is None):
            raise P2Error("data: give exactly one of `file` and `dataset` for each of train and heldout.")
        if self.file is not None and (self.subset or self.revision or self.split != "train"):
            raise P2Error("data: subset, split and revision are for a `dataset`; a `file` has none of them.")
        if self.dataset is not None:
            _check_hub_id("data: dataset", self.dataset, "`file: ./folder`")
        if self.skip < 0 or (self.take is not None and self.take < 1):
            raise P2Error(f"data: skip must be 0 or more and take 1 or more, got {self.skip} and {self.take}.")
        if self.noise is not None and not 0 < self.noise <= 1:
            raise P2Error(
                f"data.train.noise: got {self.noise}, allowed is a share in (0, 1]; leave it out for clean text."
            )

    @property
    def parts(self) -> tuple["TextSpec", ...]:
        """The texts of a blend; else the one text itself."""
        return self.blend or (self,)

    @property
    def local(self) -> bool:
        return all(part.file is not None for part in self.parts)

    @property
    def label(self) -> str:
        """The name that goes into the log: no folder of this machine in it."""
        if self.blend is not None:
            return "+".join(f"{part.weight:g}*{part.label}" for part in self.blend)
        if self.file is not None:
            name = PurePosixPath(self.file).name
        else:
            name = "/".join(part for part in (self.dataset, self.subset, self.split) if part)
        if self.skip or self.take is not None:
            name += f"[{self.skip}:{'' if self.take is None else self.skip + self.take}]"
        return name if self.noise is None else f"{name}+noise={self.noise:g}"

    def overlaps(self, other: "TextSpec") -> bool:
        """Whether some document is in both slices."""
        if self.blend is not None:
            return any(part.overlaps(other) for part in self.blend)
        if (self.file, self.dataset, self.subset, self.split) != (other.file, other.dataset, other.subset, other.split):
            return False
        first, second = sorted((self, other), key=lambda spec: spec.skip)
        return first.take is None or first.skip + first.take > second.skip


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Text to train on and text to measure on; no document may be in both."""

    train: TextSpec
    heldout: TextSpec

    def __post_init__(self) -> None:
        if self.heldout.blend is not None:
            raise P2Error("data.heldout.blend: losses are measured on one text; a blend is for data.train.")
        if self.train.weight is not None or self.heldout.weight is not None:
            raise P2Error("data: a weight is of a text in data.train.blend; remove it.")
        if self.heldout.noise is not None:
            raise P2Error("data.heldout.noise: losses are measured on text as it is; remove it.")
        if self.train.overlaps(self.heldout):
            raise P2Error(
                f"data.heldout: shares documents with data.train ({self.train.label}); "
                "use another file or split, or set skip and take so that the slices are apart."
            )


@dataclass(frozen=True, kw_only=True)
class DistillSpec:
    """How a distillation weighs its teacher: weight x T^2 x KL(teacher || model) + (1 - weight) x next-token loss.

    T is the temperature of both distributions; T^2 keeps the slope of the first part in the size of the second's.
    """

    weight: float = 1.0
    temperature: float = 1.0
    top_k: int | None = None  # of the teacher's probabilities a token, kept on disk; None: all, teacher in memory
    logits: str | None = None  # folder to keep them in, written with a leading `./` or `../`; None: p2zoo's cache

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise P2Error(f"train.distill.weight: got {self.weight}, allowed is a share of the loss, 0 to 1.")
        if not 0 < self.temperature < math.inf:
            raise P2Error(f"train.distill.temperature: got {self.temperature}, allowed is a number above 0, e.g. 2.0.")
        if self.top_k is not None and self.top_k < 1:
            raise P2Error(
                f"train.distill.top_k: got {self.top_k}, allowed is 1 or more, or null for the whole teacher."
            )
        if self.logits is not None and self.top_k is None:
            raise P2Error("train.distill.logits: only the likeliest tokens are kept on disk; set top_k, e.g. 64.")

    @property
    def words(self) -> str:
        """What tells it from a plain distillation, e.g. `(w=0.5,T=2,k=64)`; empty where nothing does."""
        parts = {"w": self.weight != 1, "T": self.temperature != 1, "k": self.top_k is not None}
        values = {"w": f"{self.weight:g}", "T": f"{self.temperature:g}", "k": str(self.top_k)}
        told = ",".join(f"{name}={values[name]}" for name, differs in parts.items() if differs)
        return f"({told})" if told else ""


@dataclass(frozen=True, kw_only=True)
class LoraSpec:
    """Low-rank adapters in place of all weights: W + alpha / rank x B A, B and A of that rank; merged at the end."""

    rank: int
    alpha: float | None = None  # None: twice the rank
    targets: tuple[str, ...] = ()  # linear maps of a layer by their names, e.g. [q_proj, v_proj]; (): all of them

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise P2Error(f"train.lora.rank: got {self.rank}, allowed is 1 or more, e.g. 16.")
        if self.alpha is not None and not 0 < self.alpha < math.inf:
            raise P2Error(
                f"train.lora.alpha: got {self.alpha}, allowed is a number above 0, or null for twice the rank."
            )
        if len(set(self.targets)) < len(self.targets):
            raise P2Error(f"train.lora.targets: names one twice: {', '.join(self.targets)}.")

    @property
    def scaled(self) -> float:
        """Alpha, as it is."""
        return 2.0 * self.rank if self.alpha is None else self.alpha

    @property
    def words(self) -> str:
        """How an objective names it, e.g. `+lora(r=16)`."""
        parts = [f"r={self.rank}"] + ([f"alpha={self.alpha:g}"] if self.alpha is not None else [])
        return f"+lora({','.join([*parts, *sorted(self.targets)])})"


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """Continued pre-training on fresh tokens; every budget is in tokens."""

    tokens: int
    batch_tokens: int  # in one optimiser step
    seq_len: int
    lr_peak: float
    checkpoint_tokens: int  # between two checkpoints
    micro_batch: int | None = None  # sequences in one forward pass, at most; None: found out
    objective: str = CLM
    distill: DistillSpec | None = None  # of the objective distill; None: the plain divergence, teacher in memory
    lora: LoraSpec | None = None  # what is trained in place of all weights
    schedule: str = "constant"
    trunk: str | None = None  # of wsd: a finished run at a constant rate that this one decays from, `./runs/NAME`
    warmup_tokens: int = 0
    packing: str = WRAPPED
    optimizer: str = "adamw"
    precision: str = "fp32-master-bf16-autocast"
    gradient_checkpointing: bool | None = None  # compute activations twice; None: only where nothing else fits
    seed: int = 0
    report_to: str | None = None  # trackio, or trackio:OWNER/SPACE: where to watch it; no part of the experiment

    def __post_init__(self) -> None:
        _check_packing(self.packing)
        _check_precision(self.precision)
        _one_of("objective", self.objective, OBJECTIVES)
        if self.distill is not None and self.objective != DISTILL:
            raise P2Error(
                f"train.distill: is of the objective {DISTILL}, got {self.objective}; set train.objective: distill."
            )
        _one_of("schedule", self.schedule, SCHEDULES)
        if self.trunk is not None and (self.schedule != WSD or not self.trunk.startswith((".", "/"))):
            raise P2Error(
                f"train.trunk: got {self.trunk!r} with the schedule {self.schedule}, allowed is a run folder, ./NAME, "
                f"with train.schedule: {WSD}."
            )
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        if self.seq_len < 2:
            raise P2Error(f"train.seq_len: got {self.seq_len}, allowed is 2 or more: one token predicts the next.")
        _check_batch(self.batch_tokens, self.seq_len, self.micro_batch)
        if self.tokens < self.batch_tokens:
            raise P2Error(f"train.tokens: got {self.tokens:,}, allowed is one step ({self.batch_tokens:,}) or more.")
        if not 0 < self.lr_peak < 1:
            raise P2Error(f"train.lr_peak: got {self.lr_peak}, allowed is a rate in (0, 1), e.g. 0.0003.")
        if not 0 <= self.warmup_tokens < self.tokens:
            raise P2Error(f"train.warmup_tokens: got {self.warmup_tokens:,}, allowed is 0 to below train.tokens.")
        if self.checkpoint_tokens < 1:
            raise P2Error(f"train.checkpoint_tokens: got {self.checkpoint_tokens}, allowed is 1 or more.")
        if self.seed < 0:
            raise P2Error(f"train.seed: got {self.seed}, allowed is 0 or more.")
        if self.report_to is not None and not _REPORT.fullmatch(self.report_to):
            raise P2Error(f"train.report_to: got {self.report_to!r}, allowed is trackio or trackio:OWNER/SPACE.")

    @property
    def objective_words(self) -> str:
        """What the log calls the objective, settings and all: losses under unlike ones share no fit."""
        return self.objective + (self.distill.words if self.distill else "") + (self.lora.words if self.lora else "")

    @property
    def teacher_in_memory(self) -> bool:
        """Whether the model before pruning stays beside the one that is trained."""
        return self.objective == DISTILL and (self.distill is None or self.distill.top_k is None)

    @property
    def steps(self) -> int:
        """Optimiser steps; a budget between two steps is rounded up to the next."""
        return -(-self.tokens // self.batch_tokens)

    @property
    def planned_tokens(self) -> int:
        return self.steps * self.batch_tokens


@dataclass(frozen=True, kw_only=True)
class EvalSpec:
    """When and on how much held-out text the loss is measured; see zoo.recipe.grid for the grid."""

    tokens: int = 16_384
    grid: str = "log-then-linear"
    log_points: int = 6
    linear_points: int = 6
    linear_from: float = 0.3  # share of the budget where the linear part begins

    def __post_init__(self) -> None:
        if self.grid not in GRIDS:
            raise unknown_name("grid", self.grid, GRIDS, "evaluate.grid")
        if self.tokens < 2:
            raise P2Error(f"evaluate.tokens: got {self.tokens}, allowed is 2 or more.")
        if self.log_points < 1 or self.linear_points < 1:
            raise P2Error("evaluate: log_points and linear_points must both be 1 or more.")
        if not 0 < self.linear_from < 1:
            raise P2Error(f"evaluate.linear_from: got {self.linear_from}, allowed is a share in (0, 1).")


@dataclass(frozen=True, kw_only=True)
class HardwareSpec:
    """What to train on; it changes no result and is not part of the experiment."""

    gpus: int = 1  # that share the model and each step, by FSDP2

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise P2Error(f"hardware.gpus: got {self.gpus}, allowed is 1 or more.")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One experiment. `folder` is where relative paths start; it and `hardware` are not part of the experiment."""

    name: str
    model: ModelSpec
    prune: PruneSpec
    data: DataSpec
    train: TrainSpec
    evaluate: EvalSpec = field(default_factory=EvalSpec)
    contributor: str = "anonymous"
    hardware: HardwareSpec | None = None  # None: as it is launched
    folder: Path = field(default=Path(), compare=False, repr=False, init=False)

    def __post_init__(self) -> None:
        for key, value in (("name", self.name), ("contributor", self.contributor)):
            if not HUB_NAME.fullmatch(value):
                raise P2Error(
                    f"{key}: got {value!r}, allowed are up to 96 of a-z, 0-9 and . _ - after a letter or digit."
                )
        if self.model.scratch is not None and self.train.lora is not None:
            raise P2Error("train.lora: a model trained from scratch has nothing to adapt; remove it.")
        if self.model.scratch is not None and (self.prune.method != CONTROL or self.train.objective != CLM):
            raise P2Error("prune.method: a model trained from scratch is not pruned and has no teacher: none and clm.")

    @property
    def ready(self) -> ModelSpec | None:
        """The ready pruned model that is taken as it is, where there is one."""
        return None if self.prune.from_ is None else ModelSpec(name=self.prune.from_, revision=self.prune.revision)

    @property
    def objective(self) -> str:
        """What the log calls it; losses under different objectives share no fit."""
        return PRETRAIN if self.model.scratch is not None else self.train.objective_words

    def path(self, written: str) -> Path:
        """A path of the recipe as one of this machine."""
        return (self.folder / written).resolve()

    @property
    def sha256(self) -> str:
        """Hash of the resolved recipe; local paths count by their last part, so it is the same everywhere."""
        data = as_data(self)
        data.pop("hardware", None)
        data["train"].pop("report_to", None)
        data["model"]["name"] = self.model.label
        data["model"].pop("base", None)  # a Hub model is the same in a folder
        if (ready := self.ready) is not None:
            data["prune"]["from"] = ready.label
        if self.model.scratch is not None and self.model.scratch.tokenizer is not None:
            data["model"]["scratch"]["tokenizer"] = PurePosixPath(self.model.scratch.tokenizer).name
        if self.train.distill is not None:
            data["train"]["distill"].pop("logits", None)  # where they are kept changes no result
        if self.train.trunk is not None:
            data["train"]["trunk"] = PurePosixPath(self.train.trunk).name
        for part in (data["data"]["train"], data["data"]["heldout"], *data["data"]["train"].get("blend", ())):
            if "file" in part:
                part["file"] = PurePosixPath(part["file"]).name
        return hashlib.sha256(canonical_json(data)).hexdigest()


def as_data(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain mappings, in reading order, ready for YAML."""
    return {key: value for key, value in plain(recipe).items() if key != "folder"}


def _check_blend(spec: TextSpec) -> None:
    """Refuse what is no blend: settings beside its texts, or weights that are no shares of one text."""
    given = {"file", "dataset", "subset", "revision", "take", "noise", "weight"}
    if beside := sorted(name for name in given if getattr(spec, name) is not None):
        raise P2Error(f"data.train.blend: {', '.join(beside)} stands beside it; write it at the texts of the blend.")
    parts = spec.blend or ()
    if len(parts) < 2 or any(part.blend is not None for part in parts):
        raise P2Error("data.train.blend: allowed are two texts or more, each a `file` or `dataset` with its `weight`.")
    for number, part in enumerate(parts):
        if part.weight is None or not 0 < part.weight < 1:
            got = "none" if part.weight is None else f"{part.weight:g}"
            raise P2Error(f"data.train.blend[{number}].weight: got {got}, allowed is a share in (0, 1), e.g. 0.7.")
        if part.noise is not None:
            raise P2Error(f"data.train.blend[{number}].noise: noise is of one text, not of a blend; remove it.")
    total = math.fsum(part.weight or 0 for part in parts)
    if abs(total - 1) > 1e-6:
        told = " + ".join(f"{part.weight:g}" for part in parts)
        raise P2Error(f"data.train.blend: weights add up to {total:g} ({told}), allowed are shares that add up to 1.")
    if any(one.overlaps(other) for i, one in enumerate(parts) for other in parts[:i]):
        raise P2Error("data.train.blend: two of its texts share documents, and no text is repeated; set skip and take.")


def _check_hub_id(where: str, name: str, local: str) -> None:
    """Refuse what cannot be the name of a repository, and say what it looks like."""
    if _HUB_ID.fullmatch(name):
        return
    if "://" in name or name.startswith("hf.co/"):
        advice = "the last two parts of the address, without it"
    elif name.startswith((".", "/", "~")):
        advice = f"owner/name; what lies on this machine is {local}"
    else:
        advice = "owner/name with one slash; what stands deeper in a data set is its `subset` or `split`"
    raise P2Error(f"{where}: {name!r} is no Hub id; write {advice}.")


def _one_of(name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise unknown_name(name, value, known, f"train.{name}")


def _check_batch(batch_tokens: int, seq_len: int, micro_batch: int | None) -> None:
    if micro_batch is not None and micro_batch < 1:
        raise P2Error(f"train.micro_batch: got {micro_batch}, allowed is 1 or more, or null to have it found out.")
    unit = seq_len * (micro_batch or 1)
    if batch_tokens < 1 or batch_tokens % unit:
        unit_words = f"seq_len x micro_batch = {seq_len} x {micro_batch}" if micro_batch else "seq_len"
        raise P2Error(f"train.batch_tokens: got {batch_tokens:,}, allowed is a multiple of {unit_words} = {unit:,}.")


def _check_packing(packing: str) -> None:
    if packing == "bfd":
        raise P2Error(
            "train.packing: 'bfd' cuts every document at seq_len and drops the rest, half of the text and more; "
            "use 'bfd_split', which keeps it, or 'wrapped'."
        )
    _one_of("packing", packing, PACKINGS)


def _check_precision(precision: str) -> None:
    if precision in ("bf16", "bfloat16"):
        raise P2Error(
            f"train.precision: {precision!r} alone would keep the weights in bf16, where small updates are lost. Use "
            "'fp32-master-bf16-autocast' (bf16 arithmetic, fp32 weights), or say 'bf16-master' if you mean it."
        )
    _one_of("precision", precision, PRECISIONS)
