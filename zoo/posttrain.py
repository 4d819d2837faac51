"""Post-training: TRL's SFTTrainer on packed blocks, with a lean loss and an exact token count.

The trainer does what it is good at: precision, accumulation, clipping, schedules, optimizer state, several
GPUs. What cost two thirds of its time on a small model, entropy and accuracy over the vocabulary and a
recomputed output layer, is replaced by `zoo.lm_loss`. Tokens are counted from the blocks, so the count
is exact and needs no memory across a resume. Measuring and saving on the way is curve.py.
"""

from collections.abc import Sequence
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from leaderboard.errors import P2Error
from zoo.lm_loss import as_inputs, next_token_nll
from zoo.packing import Blocks
from zoo.recipe import TrainSpec
from zoo.runfolder import disk

SCHEDULES = {"constant": "constant_with_warmup", "cosine": "cosine", "linear": "linear"}
ADAM_BETA2 = 0.95  # weight decay is 0 and gradients are clipped to norm 1
CLIP = 1.0


class LeanTrainer(SFTTrainer):
    """SFTTrainer on `Blocks`. `step_loss` is the mean training loss of the step under way, nats per token."""

    def __init__(self, model: PreTrainedModel, blocks: Blocks, spec: TrainSpec, tokenizer: Any, folder: Path):
        _check_master(model, spec)
        super().__init__(
            model=model,
            args=_arguments(spec, len(blocks), folder),
            train_dataset=Dataset.from_dict({"row": np.arange(len(blocks))}),
            data_collator=lambda rows: as_inputs(blocks, [row["row"] for row in rows]),
            processing_class=tokenizer,
        )
        self.step_loss = 0.0
        model.forward = MethodType(_loss_only, model)  # not around it, so that wrappers see it

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """Summed loss of a micro-batch over the predicted tokens of the whole step."""
        return model(**inputs)["loss"] / num_items_in_batch

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        self.step_loss += float(loss)
        return loss

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As in Trainer; afterwards the model has its own forward back."""
        try:
            return super().train(*args, **kwargs)
        finally:
            vars(self.model).pop("forward", None)

    def _save_checkpoint(self, *args: Any) -> None:
        """As in Trainer; a failed write ends the run in words (torch and safetensors have their own errors)."""
        with disk(Path(str(self.args.output_dir))):
            try:
                super()._save_checkpoint(*args)
            except (RuntimeError, SafetensorError) as error:
                raise OSError(str(error)) from error

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Checkpoints need no card; the published model gets p2zoo's own."""


def post_train(
    model: PreTrainedModel,
    blocks: Blocks,
    spec: TrainSpec,
    tokenizer: Any,
    folder: Path,
    callbacks: Sequence[TrainerCallback] = (),
    resume_from: Path | None = None,
) -> PreTrainedModel:
    """Train `model` on `blocks`, once, in order; `resume_from` is a checkpoint of an earlier, cut-off call."""
    trainer = LeanTrainer(model, blocks, spec, tokenizer, folder)
    for name in ("PrinterCallback", "ProgressCallback"):
        for callback in [c for c in trainer.callback_handler.callbacks if type(c).__name__ == name]:
            trainer.remove_callback(callback)
    for callback in callbacks:
        callback.trainer = trainer  # type: ignore[attr-defined]
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
    return model


def tokens_after(blocks: Blocks, spec: TrainSpec) -> np.ndarray:
    """Tokens trained after each number of steps, padding excluded; element 0 is 0."""
    per_step = blocks.lengths.reshape(-1, spec.batch_tokens // spec.seq_len).sum(axis=1)
    return np.concatenate([[0], np.cumsum(per_step)])


def _loss_only(model: Any, **inputs: Tensor) -> dict[str, Tensor]:
    return {"loss": next_token_nll(model, **inputs)}


def _arguments(spec: TrainSpec, blocks: int, folder: Path) -> SFTConfig:
    per_step = spec.batch_tokens // spec.seq_len
    return SFTConfig(
        output_dir=str(folder),
        max_steps=blocks // per_step,
        per_device_train_batch_size=spec.micro_batch,
        gradient_accumulation_steps=per_step // spec.micro_batch,
        train_sampling_strategy="sequential",
        learning_rate=spec.lr_peak,
        lr_scheduler_type=SCHEDULES[spec.schedule],
        warmup_steps=-(-spec.warmup_tokens // spec.batch_tokens),
        optim="adamw_torch_fused",
        adam_beta2=ADAM_BETA2,
        weight_decay=0.0,
        max_grad_norm=CLIP,
        bf16=spec.precision == "fp32-master-bf16-autocast",
        activation_checkpointing=spec.gradient_checkpointing,
        seed=spec.seed,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",  # curve.py asks for saves on the token grid
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
    )


def _check_master(model: PreTrainedModel, spec: TrainSpec) -> None:
    """Refuse weights that are not in the dtype the recipe says; bf16 masters lose small updates."""
    wanted = torch.bfloat16 if spec.precision == "bf16-master" else torch.float32
    wrong = next((name for name, p in model.named_parameters() if p.dtype != wanted), None)
    if wrong is not None:
        raise P2Error(
            f"train.precision: {spec.precision} needs {wanted} weights, {wrong} is {model.get_parameter(wrong).dtype}; "
            "AdamW's small updates vanish in bf16. Load the model in fp32, or ask for precision 'bf16-master'."
        )
