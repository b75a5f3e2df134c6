"""Reads a golden case, a json sidecar and an npz of the same stem, and compares arrays by the sidecar's own rule."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

# the cases of the repository
CASES = Path(__file__).with_name("cases")
DIRECTIONS = ("forward", "backward")
PREFIXES = {"gradient": "d.", "cotangent": "cot."}


@dataclass(frozen=True)
class Part:
    """One array of a quantity, or the two that hold its real and its imaginary part; `names` are those of the npz."""

    value: Tensor
    entries: tuple[dict[str, Any], ...]
    names: str

    @property
    def compare(self) -> bool:
        """Whether the sidecar asks to compare it."""
        answers = {entry["compare"] for entry in self.entries}
        if len(answers) > 1:
            raise ValueError(f"{self.names}: one half of a complex number cannot be compared without the other")
        return answers.pop()

    @property
    def tolerance(self) -> dict[str, float]:
        """The limits; of a complex number the wider of both halves', as one half alone may be off by its own limit."""
        limits = [entry["tolerance"] for entry in self.entries]
        return {name: max(limit[name] for limit in limits) for name in limits[0]}


@dataclass(frozen=True)
class Quantity:
    """What the arrays of one symbol and role hold: parts in their order, concatenated along `axis`."""

    parts: tuple[Part, ...]
    axis: int = 0

    @property
    def value(self) -> Tensor:
        """All parts as one tensor."""
        values = [part.value for part in self.parts]
        return values[0] if len(values) == 1 else torch.cat(values, self.axis)

    @property
    def compare(self) -> bool:
        """Whether the sidecar asks to compare some of it."""
        return any(part.compare for part in self.parts)

    def excess(self, ours: Tensor) -> float:
        """The largest difference over the allowed one, each part by its own limits; at most 1 is agreement."""
        if len(self.parts) == 1:
            return excess(ours, self.parts[0].value, self.parts[0].tolerance)
        assert ours.shape == self.value.shape, f"shape {tuple(ours.shape)} is not {tuple(self.value.shape)}"
        pieces = ours.split([part.value.shape[self.axis] for part in self.parts], self.axis)
        compared = [(piece, part) for piece, part in zip(pieces, self.parts, strict=True) if part.compare]
        return max(excess(piece, part.value, part.tolerance) for piece, part in compared)


@dataclass(frozen=True)
class Case:
    """One golden case; everything about it comes from the sidecar, nothing from the file name."""

    path: Path
    sidecar: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        described = self.sidecar["arrays"]
        if described.keys() != self.arrays.keys():
            raise ValueError(f"{self.path}: sidecar and npz differ in {sorted(described.keys() ^ self.arrays.keys())}")
        for name, entry in described.items():
            shape, dtype = list(self.arrays[name].shape), str(self.arrays[name].dtype)
            if shape != entry["shape"] or dtype != entry["dtype"]:
                said = f"{entry['dtype']} {entry['shape']}"
                raise ValueError(f"{self.path}: {name} is {dtype} {shape}, the sidecar says {said}")
            prefix = PREFIXES.get(entry["role"])
            if prefix and entry["symbol"] != prefix + described.get(entry["of"], {}).get("symbol", ""):
                raise ValueError(f"{self.path}: {name} with the symbol {entry['symbol']} is no {entry['role']} of it")

    @property
    def family(self) -> str:
        return self.sidecar["family"]

    @property
    def config(self) -> dict[str, Any]:
        return self.sidecar["config"]

    def quantities(self, *roles: str) -> dict[str, Quantity]:
        """What the case holds in the given roles, by symbol; of two roles that share a symbol, the later."""
        found = {}
        for role in roles:
            names: dict[str, list[str]] = {}
            for name, entry in self.sidecar["arrays"].items():
                if entry["role"] == role:
                    names.setdefault(entry["symbol"], []).append(name)
            found |= {symbol: self._join(symbol, arrays) for symbol, arrays in names.items()}
        return found

    def symbols(self, *roles: str) -> dict[str, Tensor]:
        """Tensors of the given roles by symbol, in double precision, integers as int64; parts joined."""
        return {symbol: quantity.value for symbol, quantity in self.quantities(*roles).items()}

    def compared(self) -> dict[str, Quantity]:
        """What an exact method is compared with, by symbol: the truth where the case has it beside an output."""
        found = self.quantities("output", "exact", "gradient")
        return {symbol: quantity for symbol, quantity in found.items() if quantity.compare}

    def _join(self, symbol: str, names: Sequence[str]) -> Quantity:
        """The arrays of one symbol and role as one quantity."""
        places = {name: self._place(name, alone=len(names) == 1) for name in names}
        parts: dict[Any, list[str]] = {}
        for name in names:
            parts.setdefault(places[name][0], []).append(name)
        axes = {axis for _, axis in places.values()}
        if len(axes) > 1 or (axes == {None}) != (list(parts) == [None]):
            raise ValueError(f"{self.path}: {symbol}: every part needs the same part_axis, not {places}")
        try:
            order = ordered(list(parts))
            quantity = Quantity(tuple(self._part(parts[part]) for part in order), axes.pop() or 0)
            assert quantity.value is not None
        except (ValueError, RuntimeError, IndexError) as error:
            raise ValueError(f"{self.path}: {symbol} cannot be joined from {places}: {error}") from error
        return quantity

    def _place(self, name: str, alone: bool) -> tuple[Any, Any]:
        """`part` and `part_axis` of an array; what belongs to a part of several is that part of its own quantity."""
        entry = self.sidecar["arrays"][name]
        if not alone and "part" not in entry and "of" in entry:
            entry = self.sidecar["arrays"][entry["of"]]
        return entry.get("part"), entry.get("part_axis")

    def _part(self, names: Sequence[str]) -> Part:
        """One part: an array, or one with real and one with imaginary parts."""
        entries = tuple(self.sidecar["arrays"][name] for name in names)
        encodings = sorted(entry["encoding"] for entry in entries)
        if encodings != ["im", "re"] and (len(names) > 1 or encodings[0] in ("re", "im")):
            raise ValueError(f"{', '.join(names)} are one part, but are encoded as {', '.join(encodings)}")
        values = [decode(self.arrays[name], entry["encoding"]) for name, entry in zip(names, entries, strict=True)]
        return Part(torch.from_numpy(np.ascontiguousarray(sum(values[1:], values[0]))), entries, ", ".join(names))


def ordered(parts: list[Any]) -> list[Any]:
    """Parts in the order in which they are concatenated.

    Raises:
        ValueError: a part is missing, or it is neither a direction nor a number that counts from 0 or 1.
    """
    if parts == [None]:
        return parts
    if all(part in DIRECTIONS for part in parts):
        wanted: Sequence[Any] = DIRECTIONS
    elif all(isinstance(part, int) for part in parts):
        first = min(min(parts), 1)
        wanted = range(first, max(parts) + 1)
        if first < 0:
            raise ValueError("parts count from 0 or 1")
    else:
        raise ValueError(f"parts are {', '.join(DIRECTIONS)} or numbers")
    missing = [part for part in wanted if part not in parts]
    if missing:
        raise ValueError(f"part {missing[0]} is missing")
    return list(wanted)


def decode(array: np.ndarray, encoding: str) -> np.ndarray:
    """An array as float64 or complex128; integers and booleans stay what they are."""
    if encoding == "im":
        return 1j * array.astype(np.float64)
    if encoding == "re_im_last":
        if array.shape[-1] != 2:
            raise ValueError(f"the last axis of {list(array.shape)} is not [re, im]")
        return array[..., 0].astype(np.float64) + 1j * array[..., 1].astype(np.float64)
    if encoding == "re_im_interleaved_last":
        return array[..., 0::2].astype(np.float64) + 1j * array[..., 1::2].astype(np.float64)
    if encoding not in ("real", "re", "complex"):
        raise ValueError(f"the encoding {encoding} is not known")
    if array.dtype.kind in "iub":
        return array if array.dtype.kind == "b" else array.astype(np.int64)
    return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)


def sidecars(folder: Path) -> Iterator[Path]:
    """The sidecars below a folder, by what they say; other json files are none."""
    for path in sorted(folder.rglob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and {"family", "arrays"} <= content.keys():
            yield path


def adapter(family: str) -> ModuleType | None:
    """The module that replays a family."""
    name = f"tests.golden.{family}"
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


def read_case(path: Path) -> Case:
    with np.load(path.with_suffix(".npz")) as arrays:
        return Case(path, json.loads(path.read_text(encoding="utf-8")), dict(arrays))


def excess(ours: Tensor, golden: Tensor, tolerance: dict[str, float]) -> float:
    """The largest difference over the allowed one; at most 1 is agreement."""
    assert ours.shape == golden.shape, f"shape {tuple(ours.shape)} is not {tuple(golden.shape)}"
    allowed = tolerance["rtol"] * golden.abs() + tolerance["atol"]
    allowed = allowed + tolerance["atol_relative_to_max"] * golden.abs().max()
    return float(((ours.detach() - golden).abs() / allowed.clamp_min(1e-300)).max())


def with_gradients(
    leaves: dict[str, Tensor], outputs: dict[str, Tensor], cotangents: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Outputs together with the gradients of sum(cotangent * output) over all real numbers, as symbols "d.X"."""
    loss = sum(
        (cotangent.conj() * outputs[symbol.removeprefix("cot.")]).real.sum() for symbol, cotangent in cotangents.items()
    )
    wanted = {symbol: leaf for symbol, leaf in leaves.items() if leaf.requires_grad}
    gradients = torch.autograd.grad(
        loss, list(wanted.values()), allow_unused=True, retain_graph=True, materialize_grads=True
    )
    return {**outputs, **{f"d.{symbol}": gradient for symbol, gradient in zip(wanted, gradients, strict=True)}}
