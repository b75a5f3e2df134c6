"""Text that the model writes, in TensorBoard."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning import Callback, Trainer

from lcsm.training.callbacks.hyperparameters import tensorboards
from lcsm.training.callbacks.progress_state import is_last_step

log = logging.getLogger(__name__)

SEED = 0


class TextSamples(Callback):
    """Continues the start of the first validation row, token by token, and logs it as `samples/val`.

    The same prompt and random numbers are used every time, so that samples of a run can be compared.
    A model that cannot stream writes none.

    Args:
        every: number of validations between two samples; the last validation has one too.
        prompt_tokens: length of the prompt.
        num_tokens: length of the continuation.
        temperature, top_k, top_p: see `lcsm.models.generation.generate`.
    """

    def __init__(
        self,
        *,
        every: int,
        prompt_tokens: int,
        num_tokens: int,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
    ) -> None:
        self.every = every
        self.prompt_tokens = prompt_tokens
        self.num_tokens = num_tokens
        self.sampling: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        self.prompt: list[int] | None = None
        self.validations = 0
        self.possible = True

    def state_dict(self) -> dict[str, Any]:
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.validations = state_dict["validations"]

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.possible = getattr(pl_module.model, "streams", True)
        if not self.possible and trainer.is_global_zero:
            log.warning("no samples of text: this model cannot stream; callbacks.samples=null leaves them out")

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self.prompt is None and dataloader_idx == 0:
            self.prompt = batch["tokens"][0, : self.prompt_tokens].tolist()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero or self.prompt is None or not self.possible:
            return
        self.validations += 1
        if (self.validations - 1) % self.every and not is_last_step(trainer):
            return
        from lcsm.models.generation import generate

        generator = torch.Generator().manual_seed(SEED)
        tokens = list(generate(pl_module.model, self.prompt, self.num_tokens, generator=generator, **self.sampling))
        decode = trainer.datamodule.decode  # type: ignore[attr-defined]
        # indented by four spaces TensorBoard shows text as it is, without reading it as Markdown
        text = "\n".join("    " + line for line in f"{decode(self.prompt)} ⟶ {decode(tokens)}".splitlines())
        for logger in tensorboards(trainer):
            logger.add("text", "samples/val", text, trainer.global_step)
