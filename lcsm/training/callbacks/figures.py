"""Pictures of what the mixers do: decays, how long memory lasts, which token reads which."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, Trainer
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lcsm.errors import UsageError
from lcsm.training.callbacks.hyperparameters import tensorboards
from lcsm.training.callbacks.progress_state import is_last_step

log = logging.getLogger(__name__)

# a half-life beyond this many steps cannot be told from "for ever" in single precision
LONGEST_HALF_LIFE = 1e7
# and below this one nothing outlives a step
SHORTEST_HALF_LIFE = 1e-2


class Figures(Callback):
    """Draws the decay spectrum, the memory half-life per layer and the token-mixing matrix of one layer.

    Goes to TensorBoard as images, and to `<directory>/*.png`, the newest picture only.

    Args:
        directory: where the files go.
        every: number of validations between two drawings; the last validation is drawn too.
        layer: index of the layer whose mixing matrix is drawn.
        length: number of tokens of the first validation row that are used.
    """

    def __init__(self, directory: Path, *, every: int, layer: int, length: int) -> None:
        self.directory = directory
        self.every = every
        self.layer = layer
        self.length = length
        self.tokens: torch.Tensor | None = None
        self.validations = 0
        self.possible = True

    def state_dict(self) -> dict[str, Any]:
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.validations = state_dict["validations"]

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch_idx == 0 and dataloader_idx == 0:
            inputs = batch["tokens"] if "tokens" in batch else batch["inputs"]
            self.tokens = inputs[:1, : self.length]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero or self.tokens is None or not self.possible:
            return
        self.validations += 1
        if (self.validations - 1) % self.every and not is_last_step(trainer):
            return
        try:
            figures = self.draw(pl_module.model, self.tokens)
            self.directory.mkdir(parents=True, exist_ok=True)
            for name, figure in figures.items():
                figure.savefig(self.directory / f"{name.replace('/', '_')}.png", dpi=120)
        except (UsageError, OSError) as error:
            self.possible = False
            log.warning("no figures: %s; callbacks.figures=null leaves them out", error)
            return
        for name, figure in figures.items():
            for logger in tensorboards(trainer):
                logger.add("figure", name, figure, trainer.global_step)

    def draw(self, model: Any, tokens: torch.Tensor) -> dict[str, Figure]:
        """The figures by their names.

        Raises:
            UsageError: the model does not show what is drawn, such as a mixer of one's own.
        """
        from lcsm.inspection import decay_spectrum, mixing_matrix

        spectrum = decay_spectrum(model, tokens)
        figures = {f"mixing/layer{self.layer}": draw_mixing(mixing_matrix(model, self.layer, tokens))}
        if spectrum:
            figures |= {"spectrum/decays": draw_spectrum(spectrum), "spectrum/half_life": draw_half_lives(spectrum)}
        return figures


def new_figure(rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with its axes below each other, drawn without a window and unknown to pyplot."""
    figure = Figure(figsize=(5, 1.2 + 2.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, 1, squeeze=False)[:, 0])


def draw_spectrum(spectrum: list[tuple[str, np.ndarray]]) -> Figure:
    """Histograms of the decays of each layer, over (0, 1]."""
    figure, axes = new_figure(len(spectrum))
    for axis, (name, decays) in zip(axes, spectrum, strict=True):
        axis.hist(decays.ravel(), bins=50, range=(0.0, 1.0), color="C0")
        axis.set_title(name, fontsize="small")
        axis.set_ylabel("entries")
    axes[-1].set_xlabel("decay per step")
    return figure


def draw_half_lives(spectrum: list[tuple[str, np.ndarray]]) -> Figure:
    """Steps until half of the memory is left, sorted within each layer: ln 2 / -ln decay."""
    from lcsm.inspection import half_life

    figure, (axis,) = new_figure()
    for name, decays in spectrum:
        steps = np.sort(np.clip(half_life(decays.astype(np.float64).ravel()), SHORTEST_HALF_LIFE, LONGEST_HALF_LIFE))
        axis.plot(np.linspace(0.0, 1.0, steps.size), steps, label=name, marker="." if steps.size < 50 else "")
    axis.set_yscale("log")
    axis.set_xlabel("share of the memory entries")
    axis.set_ylabel("half-life in steps")
    axis.legend(fontsize="x-small")
    return figure


def draw_mixing(matrix: np.ndarray) -> Figure:
    """The token-mixing matrix [L L]: which token (column) enters which output (row), on a logarithmic scale."""
    figure, (axis,) = new_figure()
    figure.set_size_inches(5, 4.5)
    size = np.abs(matrix)
    largest = float(size.max()) or 1.0
    # four orders of magnitude below the largest entry count as nothing
    image = axis.imshow(np.log10(np.maximum(size / largest, 1e-4)), cmap="viridis", vmin=-4, vmax=0)
    axis.set_xlabel("input token")
    axis.set_ylabel("output token")
    figure.colorbar(image, label="log10 of the share of the largest entry")
    return figure
