"""What every algorithm must agree with: values, final memory and all gradients of the reference loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lcsm.ops.reference import reference
from lcsm.ops.spec import RecurrenceSpec
from lcsm.structures import Diagonal, Structure

B = 2
KINDS = {"Dense": "dense", "Shift": "shift", "LowRank": "low_rank", "Delta": "low_rank"}


@dataclass(frozen=True)
class Case:
    """Shapes of one call, drawn at random. An axis that is named is full, the others have size 1.

    Args:
        fields: axes of the structure's fields, by name.
        complex: names of the factors that are complex.
        strength: scale of the log-decays.
    """

    fields: dict[str, str]
    inputs: str = "BLHP"
    expand: str = "BLHN"
    shrink: str = "BLHN"
    heads: int = 2
    size: int = 3
    width: int = 2
    complex: tuple[str, ...] = ()
    kind: type[Structure] = Diagonal
    strength: float = 0.5
    settings: dict[str, Any] = field(default_factory=dict)

    def spec(self, **changes: Any) -> RecurrenceSpec:
        axes = {name: value.replace("B", "") for name, value in self.fields.items()}
        decay = "+".join(value for name, value in axes.items() if name not in ("phase", "gain"))
        return RecurrenceSpec(
            kind=KINDS.get(self.kind.__name__, "diagonal"),
            decay=decay, phase=axes.get("phase"), gain=None,
            expand=self.expand.replace("B", ""), shrink=self.shrink.replace("B", ""),
            num_heads=self.heads, state_dim=self.size, value_dim=self.width, **{**self.settings, **changes},
        )  # fmt: skip

    @property
    def substeps(self) -> int:
        return self.settings.get("substeps", 1)

    def shape(self, axes: str, length: int) -> list[int]:
        sizes = {"B": B, "L": length, "H": self.heads, "N": self.size, "P": self.width}
        return [sizes[axis] if axis in axes else 1 for axis in "BLHNP"]

    def leaves(self, length: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """Every tensor of a call, by name, as leaves that require gradients."""
        axes = {"inputs": self.inputs, "expand": self.expand, "shrink": self.shrink, **self.fields}
        found = {}
        for name, value in axes.items():
            shape = self.shape(value, length * (1 if name == "shrink" else self.substeps))
            shape = [*shape[:3], shape[4]] if name == "inputs" else shape
            shape = [*shape[:3], self.size, self.size] if name == "matrix" else shape
            found[name] = torch.randn(shape, dtype=torch.complex128 if name in self.complex else torch.float64)
        for name in ("log_decay", "columns"):
            if name in found:
                found[name] = -found[name].abs() * self.strength
        if "step" in found:
            found["step"] = found["step"].abs()
        if "matrix" in found:
            found["matrix"] = found["matrix"] / torch.linalg.matrix_norm(found["matrix"], 2)[..., None, None]
        cast = {torch.float64: {}, torch.float32: {torch.float64: torch.float32, torch.complex128: torch.complex64}}
        return {
            name: value.to(cast[dtype].get(value.dtype, value.dtype)).requires_grad_() for name, value in found.items()
        }


def call(algorithm: Callable[..., Any], spec: RecurrenceSpec, kind: type, leaves: dict[str, Tensor], **arguments: Any):
    """One call from a flat dict of tensors."""
    fields = {name: value for name, value in leaves.items() if name not in ("inputs", "expand", "shrink", "memory")}
    factors = [leaves[name] for name in ("inputs", "expand", "shrink")]
    return algorithm(spec, kind(**fields), *factors, leaves.get("memory"), **arguments)


def gradients(results: list[Tensor], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of a fixed random functional of the results."""
    generator = torch.Generator().manual_seed(7)
    loss = torch.zeros((), dtype=torch.float64)
    for result in results:
        parts = torch.view_as_real(result.resolve_conj()) if result.is_complex() else result
        loss = loss + (parts * torch.randn(parts.shape, generator=generator, dtype=torch.float64)).sum()
    wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    pairs = zip(wanted.items(), found, strict=True)
    return {name: torch.zeros_like(leaf) if grad is None else grad for (name, leaf), grad in pairs}


def assert_agrees(
    algorithm: Callable[..., Any],
    case: Case,
    length: int,
    *,
    memory: bool = True,
    keep: bool = True,
    resets: Tensor | None = None,
    tolerance: float = 1e-9,
    alter: Callable[[Case, dict[str, Tensor]], None] | None = None,
    **changes: Any,
) -> None:
    """Outputs, final memory and the gradients of every tensor equal those of the reference, in float64."""
    spec, leaves = case.spec(**changes), case.leaves(length)
    if memory:
        dtype = call(reference, spec, case.kind, leaves, keep=True)[1].dtype
        leaves["memory"] = torch.randn(B, case.heads, case.size, case.width, dtype=dtype).requires_grad_()
    if alter is not None:
        alter(case, leaves)
    found, expected = {}, {}
    for target, function in ((found, algorithm), (expected, reference)):
        outputs, final = call(function, spec, case.kind, leaves, keep=keep, resets=resets)
        assert (final is not None) == keep
        results = [outputs] if final is None else [outputs, final]
        target.update(outputs=outputs, final=final, **gradients(results, leaves))
    for name, value in expected.items():
        if value is not None:
            assert found[name].shape == value.shape, f"{name}: {tuple(found[name].shape)} != {tuple(value.shape)}"
            torch.testing.assert_close(
                found[name], value, rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
            )


def assert_splits(algorithm: Callable[..., Any], case: Case, length: int, at: int, **changes: Any) -> None:
    """Cutting a sequence and carrying the memory changes nothing: values and gradients."""
    spec, leaves = case.spec(**changes), case.leaves(length)
    whole, final = call(algorithm, spec, case.kind, leaves, keep=True)
    memory, outputs = None, []
    for span in (slice(0, at), slice(at, length)):
        steps = slice(span.start * case.substeps, span.stop * case.substeps)
        piece = {
            name: value if value.shape[1] == 1 else value[:, span if name == "shrink" else steps]
            for name, value in leaves.items()
        }
        piece |= {} if memory is None else {"memory": memory}
        output, memory = call(algorithm, spec, case.kind, piece, keep=True)
        outputs.append(output)
    split = torch.cat(outputs, 1)
    torch.testing.assert_close(split, whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(memory, final, rtol=1e-12, atol=1e-12)
    for one, other in zip(
        gradients([split, memory], leaves).values(), gradients([whole, final], leaves).values(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def random_resets(length: int) -> Tensor:
    """Several segments per row, one of them a single token; the first row starts with a reset."""
    resets = torch.rand(B, length) < 0.2
    resets[0, 0] = True
    resets[-1, -2:] = True
    return resets


def float32_error(algorithm: Callable[..., Any], case: Case, length: int, **changes: Any) -> float:
    """Relative error of float32 outputs against the float64 recurrence."""
    leaves = case.leaves(length, torch.float32)
    wide = {n: v.detach().to(torch.complex128 if v.is_complex() else torch.float64) for n, v in leaves.items()}
    spec = case.spec(**changes)
    with torch.no_grad():
        expected, _ = call(reference, spec, case.kind, wide)
        found, _ = call(algorithm, spec, case.kind, leaves)
    return float((found.to(expected.dtype) - expected).norm() / expected.norm())


def assert_autocast_is_ignored(algorithm: Callable[..., Any], case: Case) -> None:
    """Products stay in float32: under autocast, and where the inputs alone are of low precision."""
    leaves, spec = case.leaves(19, torch.float32), case.spec()
    rounded = leaves["inputs"].bfloat16()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = call(algorithm, spec, case.kind, leaves, keep=True)
    with torch.no_grad():
        expected = call(algorithm, spec, case.kind, leaves, keep=True)
        low = call(algorithm, spec, case.kind, leaves | {"inputs": rounded}, keep=True)
        widened = call(algorithm, spec, case.kind, leaves | {"inputs": rounded.float()}, keep=True)
    for one, other in zip((*found, *low), (*expected, *widened), strict=True):
        assert torch.equal(one, other)


def assert_strong_decays_stay_finite(algorithm: Callable[..., Any], case: Case) -> None:
    """Log-decays down to -300 and beyond per step, in float32: outputs and gradients without NaN or infinity."""
    strong = dataclasses.replace(case, strength=300.0)
    leaves = strong.leaves(67, torch.float32)
    outputs, final = call(algorithm, strong.spec(), strong.kind, leaves, keep=True)
    values = [outputs, final, *gradients([outputs, final], leaves).values()]
    assert all(torch.isfinite(torch.view_as_real(v) if v.is_complex() else v).all() for v in values)
