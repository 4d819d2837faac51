"""Post-training: TRL's SFTTrainer on packed blocks, with a lean loss, steps of its own and an exact token count.

The trainer does what it is good at: precision, clipping, schedules, optimizer state, several GPUs. What cost two
thirds of its time on a small model, entropy and accuracy over the vocabulary and a recomputed output layer, is
replaced by the lean loss of next_token.py. It is handed whole steps, which are cut into micro-batches here: so memory
that runs out costs one step done again in smaller pieces, and never changes what is optimised. Tokens are counted
from the blocks, so the count is exact and needs no memory across a resume. Measuring and saving is callback.py.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import torch
from accelerate import DistributedType, PartialState
from datasets import Dataset
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from transformers import PreTrainedModel, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from leaderboard.errors import P2Error, RunFailed
from leaderboard.shapes import shape_of
from zoo.distributed import Team
from zoo.estimate.flops import flops_per_token, peak
from zoo.estimate.memory import state_bytes
from zoo.evaluation.next_token import as_inputs, next_token_nll
from zoo.files import disk
from zoo.inputs.packing import Blocks
from zoo.recipe.spec import SCHEDULES, WSD, WSD_DECAY, TrainSpec
from zoo.training import autotune
from zoo.training.adam8bit import AdamW8bit
from zoo.training.distill import PLAIN, next_token_kl
from zoo.training.execution import Execution, apply, executed, expected_to_fit, ladder
from zoo.training.lora import ADAPTER
from zoo.training.teacher import Kept

ADAM_BETA2 = 0.95  # weight decay is 0 and gradients are clipped to norm 1
CLIP = 1.0
_CPU_PEAK = 1e11  # FLOP/s, to guess how long a training will take there

Note = Callable[[Execution, str], None]


@dataclass(frozen=True)
class Training:
    """What is trained on what, and how.

    With a `teacher`, or what is `kept` of one for these blocks, the model learns the teacher's next-token distribution,
    without either the next token. A launched
    `team` shards it by FSDP2, each process taking its share of every step. `execution` is how an earlier, cut-off
    call carried out its steps; without it the first step finds out what fits and is fast here. `note` hears of every
    execution and why it was chosen.
    """

    model: PreTrainedModel
    blocks: Blocks  # once, in order
    spec: TrainSpec
    tokenizer: Any
    folder: Path  # of checkpoints
    execution: Execution | None = None
    note: Note = lambda execution, why: None
    team: Team = field(default_factory=Team)
    teacher: PreTrainedModel | None = None
    kept: Kept | None = None


@dataclass(frozen=True)
class StepLoss:
    """Losses of the micro-batches of one step, still on the device; their sum is the mean loss of the step."""

    step: int
    micro_batch: int
    parts: Tensor  # (micro-batches,), nats per token of the whole step


class LeanTrainer(SFTTrainer):
    """SFTTrainer on `Blocks`, a step at a time; `losses` holds the steps that nobody has looked at yet."""

    def __init__(self, training: Training):
        model, blocks, spec, folder, team = (
            training.model,
            training.blocks,
            training.spec,
            training.folder,
            training.team,
        )
        _check_master(model, spec)
        self.bare = model  # as it came, whatever the trainer puts around it
        self.team = team
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = AdamW8bit(weights, spec.lr_peak, ADAM_BETA2) if spec.optimizer == "adamw-8bit" else None
        super().__init__(
            model=model,
            args=_arguments(spec, len(blocks), folder, team),
            train_dataset=Dataset.from_dict({"row": np.arange(len(blocks))}),
            data_collator=lambda rows: _batch(training, [row["row"] for row in rows]),
            processing_class=training.tokenizer,
            optimizers=(optimizer, None),
        )
        if team.launched:  # gather in fp32 and compute under autocast, so that several compute what one does
            self.accelerator.state.fsdp_plugin.mixed_precision_policy = None
        self.spec, self.note = spec, training.note
        sequences = spec.batch_tokens // spec.seq_len // team.size
        self.rungs = ladder(
            sequences, spec.seq_len, spec.micro_batch, spec.gradient_checkpointing, self.args.device.type
        )
        self.too_much = folder / "out-of-memory"  # holds the execution that a launch failed with
        self.execution: Execution | None = None
        if training.execution is not None and sequences % training.execution.micro_batch == 0:
            self._go_on(training.execution)
        self.losses: list[StepLoss] = []
        self.aside_s = 0.0  # seconds spent on finding out, not on training, since somebody took them
        model.forward = MethodType(_loss_of(training), model)  # not around it, so that wrappers see it

    def create_accelerator_and_postprocess(self) -> None:
        """As in Trainer. Accelerate shards over GPUs only, though FSDP2 takes CPUs as well: there it is told so."""
        if self.team.launched and self.args.device.type == "cpu":
            PartialState().distributed_type = DistributedType.MULTI_GPU
        super().create_accelerator_and_postprocess()

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """Summed loss of a micro-batch over the predicted tokens of the whole step.

        Gradients of several processes are averaged, so there it is that many times as much.
        """
        assert self.execution is not None
        return model(**inputs, compiled=self.execution.compiled)["loss"] * self.team.size / num_items_in_batch

    def training_step(self, model: Any, inputs: dict[str, Tensor], num_items_in_batch: Any = None) -> Tensor:
        """Gradients of one whole step, micro-batch by micro-batch; the loss of the step stays on the device."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        if self.execution is None:
            self._find_execution(model, inputs, num_items_in_batch)
        while (parts := self._gradients(model, inputs, num_items_in_batch)) is None:
            self._step_down(model)
        assert self.execution is not None
        self.losses.append(StepLoss(self.state.global_step, self.execution.micro_batch, parts))
        return parts.sum()

    def _gradients(self, model: Any, inputs: dict[str, Tensor], items: Any) -> Tensor | None:
        """Losses of the micro-batches, gradients accumulated; None if memory ran out."""
        assert self.execution is not None
        size, rows = self.execution.micro_batch, len(inputs["input_ids"])
        cuts = [{k: v[start : start + size] for k, v in inputs.items()} for start in range(0, rows, size)]
        try:
            parts = [self._pass(cut, model, items) for cut in cuts]
        except RuntimeError as error:
            if not autotune.out_of_memory(error):
                raise
            if self.team.size > 1:  # the others would wait for this one
                raise self._given_up(self.execution) from error
            return None
        return torch.stack(parts)

    def _pass(self, inputs: dict[str, Tensor], model: Any, items: Any) -> Tensor:
        assert self.execution is not None
        with executed(self.execution):
            with self.compute_loss_context_manager():
                loss = self.compute_loss(model, inputs, num_items_in_batch=items)
            self.accelerator.backward(loss)
        return loss.detach()

    def _step_down(self, model: Any) -> None:
        """Out of memory: the same step again with the next execution that needs less."""
        assert self.execution is not None
        model.zero_grad(set_to_none=True)
        autotune.release()
        before = self.execution
        self._take(autotune.smaller(self.rungs, before))
        self.note(self.execution, f"out of memory at step {self.state.global_step:,} with {before}")

    def _given_up(self, execution: Execution) -> RunFailed:
        """Out of memory in one of several processes: the launch ends, and the next one steps down."""
        autotune.smaller(self.rungs, execution)  # raises where there is nothing below
        with disk(self.too_much):
            self.too_much.parent.mkdir(parents=True, exist_ok=True)
            self.too_much.write_text(str(execution), encoding="utf-8")
        return RunFailed(
            f"post-training: process {self.team.rank} of {self.team.size} is out of memory with {execution}. What was "
            "complete is kept; --resume goes on from it with the next execution that needs less."
        )

    def _go_on(self, before: Execution) -> None:
        """Take the execution of an earlier call; the one below it if that ended a launch."""
        if not self.too_much.is_file() or self.too_much.read_text(encoding="utf-8") != str(before):
            self._take(before)
            return
        self._take(autotune.smaller(self.rungs, before))
        assert self.execution is not None
        self.team.wait()  # until nobody will read the old one any more
        self.note(self.execution, f"out of memory before with {before}")

    def _find_execution(self, model: Any, inputs: dict[str, Tensor], items: Any) -> None:
        """Try what fits, then time what is fast; nothing of it leaves a trace in the training."""
        start, device, spec = time.perf_counter(), self.args.device, self.spec
        if self.team.launched:  # a trial that one process gives up would leave the others waiting
            self._take(expected_to_fit(self.rungs, shape_of(self.bare.config.to_dict()), spec, self.team.size))
            assert self.execution is not None
            self.note(self.execution, f"by the estimate of memory for {self.team.size} processes")
            return

        def attempt(execution: Execution) -> None:
            self._take(execution)
            try:
                self._pass({k: v[: execution.micro_batch] for k, v in inputs.items()}, model, items)
            finally:
                model.zero_grad(set_to_none=True)

        values = sum(p.numel() for p in self.bare.parameters() if p.requires_grad)
        execution = autotune.first_that_fits(self.rungs, attempt, round(values * state_bytes(spec)), device)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        flops = flops_per_token(shape_of(self.bare.config.to_dict()), spec.seq_len) * spec.planned_tokens
        if autotune.pays(flops, peak(name) or (_CPU_PEAK if device.type == "cpu" else 1e14)):
            execution = autotune.fastest(execution, attempt, device)
        self._take(execution)
        self.aside_s += time.perf_counter() - start
        self.note(execution, "chosen at the start")

    def _take(self, execution: Execution) -> None:
        self.execution = execution
        apply(self.bare, execution)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As in Trainer; afterwards the model has its own forward back."""
        try:
            return super().train(*args, **kwargs)
        finally:
            vars(self.bare).pop("forward", None)
            apply(self.bare, Execution(micro_batch=1))

    def _save_checkpoint(self, *args: Any) -> None:
        """As in Trainer; a failed write ends the run in words (torch and safetensors have their own errors)."""
        with disk(Path(str(self.args.output_dir))):
            try:
                super()._save_checkpoint(*args)
            except (RuntimeError, SafetensorError, CheckpointException) as error:
                raise OSError(str(error)) from error

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Checkpoints need no card; the published model gets p2zoo's own."""


def post_train(
    training: Training, callbacks: Sequence[TrainerCallback] = (), resume_from: Path | None = None
) -> PreTrainedModel:
    """Train the model, which is returned; `resume_from` is a checkpoint of an earlier, cut-off call."""
    trainer = LeanTrainer(training)
    for name in ("PrinterCallback", "ProgressCallback"):
        for callback in [c for c in trainer.callback_handler.callbacks if type(c).__name__ == name]:
            trainer.remove_callback(callback)
    for callback in callbacks:
        callback.trainer = trainer  # type: ignore[attr-defined]
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
    return training.model


def tokens_after(blocks: Blocks, spec: TrainSpec) -> np.ndarray:
    """Tokens trained after each number of steps, padding excluded; element 0 is 0."""
    per_step = blocks.lengths.reshape(-1, spec.batch_tokens // spec.seq_len).sum(axis=1)
    return np.concatenate([[0], np.cumsum(per_step)])


def _batch(training: Training, rows: list[int]) -> dict[str, Tensor]:
    """Blocks as inputs, with what is kept of the teacher for them."""
    inputs = as_inputs(training.blocks, rows)
    return inputs if training.kept is None else inputs | training.kept.inputs(rows)


def _loss_of(training: Training) -> Callable[..., dict[str, Tensor]]:
    """A forward that gives the summed loss alone; with a teacher that of distill.py."""
    teacher, spec = training.teacher, training.spec.distill or PLAIN
    distilled = teacher is not None or training.kept is not None

    def loss_only(model: Any, exact: bool = False, **inputs: Any) -> dict[str, Tensor]:
        """`exact`: of the next token in the dtype of the weights, as the held-out loss is measured."""
        if not exact:
            if distilled:
                return {"loss": next_token_kl(model, teacher, spec=spec, **inputs)}
            return {"loss": next_token_nll(model, **inputs)}
        with torch.autocast(model.device.type, enabled=False):
            return {"loss": next_token_nll(model, **inputs)}

    return loss_only


SHARDED = {"version": 2, "reshard_after_forward": True, "state_dict_type": "SHARDED_STATE_DICT"}


def _arguments(spec: TrainSpec, blocks: int, folder: Path, team: Team) -> SFTConfig:
    per_step = spec.batch_tokens // spec.seq_len
    arguments = SFTConfig(
        output_dir=str(folder),
        max_steps=blocks // per_step,
        per_device_train_batch_size=per_step // team.size,
        train_sampling_strategy="sequential",
        learning_rate=spec.lr_peak,
        lr_scheduler_type=SCHEDULES[spec.schedule][0],
        lr_scheduler_kwargs=_settings(spec, blocks // per_step),
        warmup_steps=-(-spec.warmup_tokens // spec.batch_tokens),
        optim="adamw_torch_fused",
        adam_beta2=ADAM_BETA2,
        weight_decay=0.0,
        max_grad_norm=CLIP,
        bf16=spec.precision == "fp32-master-bf16-autocast",
        activation_checkpointing=False,  # execution.py sets it, where it is needed
        seed=spec.seed,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",  # callback.py asks for saves on the token grid
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        accelerator_config={"non_blocking": torch.cuda.is_available()},
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        use_cpu=team.launched and not torch.cuda.is_available(),
        fsdp=True if team.launched else None,  # type: ignore[arg-type]
        fsdp_config=dict(SHARDED) if team.launched else None,
    )
    if not team.launched:
        arguments._n_gpu = min(
            arguments.n_gpu, 1
        )  # several GPUs are for a launch; DataParallel would count tokens wrong
    return arguments


def _settings(spec: TrainSpec, steps: int) -> dict[str, Any]:
    """What transformers wants to know of the schedule."""
    settings: dict[str, Any] = dict(SCHEDULES[spec.schedule][1])
    return settings | {"num_decay_steps": max(1, round(WSD_DECAY * steps))} if spec.schedule == WSD else settings


def _check_master(model: PreTrainedModel, spec: TrainSpec) -> None:
    """Refuse weights that are not in the dtype the recipe says; bf16 masters lose small updates."""
    wanted = torch.bfloat16 if spec.precision == "bf16-master" else torch.float32
    wrong = next((name for name, p in model.named_parameters() if p.dtype != wanted and ADAPTER not in name), None)
    if wrong is not None:
        raise P2Error(
            f"train.precision: {spec.precision} needs {wanted} weights, {wrong} is {model.get_parameter(wrong).dtype}; "
            "AdamW's small updates vanish in bf16. Load the model in fp32, or ask for precision 'bf16-master'."
        )
