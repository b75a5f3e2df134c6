"""Reads a golden case, a json sidecar and an npz of the same stem, and compares arrays by the sidecar's own rule."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Case:
    """One golden case; everything about it comes from the sidecar, nothing from the file name."""

    path: Path
    sidecar: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def family(self) -> str:
        return self.sidecar["family"]

    @property
    def config(self) -> dict[str, Any]:
        return self.sidecar["config"]

    def symbols(self, *roles: str) -> dict[str, Any]:
        """Tensors of the given roles by symbol, float64; real and imaginary parts joined."""
        found: dict[str, Any] = {}
        for name, entry in self.sidecar["arrays"].items():
            if entry["role"] not in roles:
                continue
            value = decode(self.arrays[name], entry["encoding"])
            if entry["encoding"] in ("re", "im") and entry["symbol"] in found:
                value = value + found[entry["symbol"]]
            found[entry["symbol"]] = value
        return {symbol: torch.from_numpy(np.ascontiguousarray(value)) for symbol, value in found.items()}

    def compared(self) -> dict[str, dict[str, Any]]:
        """The sidecar's entries that are to be compared, by symbol."""
        roles = ("output", "gradient", "exact")
        entries = self.sidecar["arrays"].values()
        return {entry["symbol"]: entry for entry in entries if entry["role"] in roles and entry["compare"]}


def decode(array: np.ndarray, encoding: str) -> np.ndarray:
    """An array as float64 or complex128."""
    if encoding == "im":
        return 1j * array.astype(np.float64)
    if encoding == "re_im_last":
        return array[..., 0].astype(np.float64) + 1j * array[..., 1].astype(np.float64)
    if encoding == "re_im_interleaved_last":
        return array[..., 0::2].astype(np.float64) + 1j * array[..., 1::2].astype(np.float64)
    return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)


def read_case(path: Path) -> Case:
    with np.load(path.with_suffix(".npz")) as arrays:
        return Case(path, json.loads(path.read_text()), dict(arrays))


def excess(ours: torch.Tensor, golden: torch.Tensor, tolerance: dict[str, float]) -> float:
    """The largest difference over the allowed one; at most 1 is agreement."""
    assert ours.shape == golden.shape, f"shape {tuple(ours.shape)} is not {tuple(golden.shape)}"
    allowed = tolerance["rtol"] * golden.abs() + tolerance["atol"]
    allowed = allowed + tolerance["atol_relative_to_max"] * golden.abs().max()
    return float(((ours.detach() - golden).abs() / allowed.clamp_min(1e-300)).max())


def with_gradients(
    leaves: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor], cotangents: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Outputs together with the gradients of sum(cotangent * output) over all real numbers, as symbols "d.X"."""
    loss = sum(
        (cotangents[f"cot.{symbol}"].conj() * outputs[symbol]).real.sum()
        for symbol in outputs
        if f"cot.{symbol}" in cotangents
    )
    wanted = [leaf for leaf in leaves.values() if leaf.requires_grad]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True, retain_graph=True)
    names = [symbol for symbol, leaf in leaves.items() if leaf.requires_grad]
    found = {f"d.{name}": gradient for name, gradient in zip(names, gradients, strict=True) if gradient is not None}
    return {**outputs, **found}
