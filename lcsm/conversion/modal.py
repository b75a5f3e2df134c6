"""Modal fits: the fewest modes that give a kernel within a tolerance.

Modes come from the shift invariance of the leading Hankel vectors (ERA: Juang and Pappa 1985), weights from least
squares over all lags. Everything is double precision until the result is rounded, and errors are those of what remains
after rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from lcsm.conversion.system import ModalSystem, joined, rounded_error, widened
from lcsm.ops import hankel
from lcsm.ops.hankel import Spectrum
from lcsm.shapes import Complex, Float, Int, Tensor

LARGEST_MODULUS = 1.0
# singular directions of the least squares below this part of the largest are left out
CONDITION = 1e-13
# orders that are tried before the search narrows down
LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


class Certificate(NamedTuple):
    """The error out of reach of any recurrence with a free tap at lag 0.

    Args:
        least: smallest order that meets the tolerance, [C].
        values: singular values of the Hankel matrices of lags 1, 2, ..., largest first, [C q].
        rows: their number of rows.
    """

    least: Int[Tensor, " C"]
    values: Float[Tensor, "C q"]
    rows: int


class Fit(NamedTuple):
    """A conversion and what is known about it.

    Args:
        system: in double precision.
        errors: relative 2-norm of what the kernel of the rounded system misses within the window, [C].
        orders: real states of each channel beside the taps, [C].
        certificate: of the same kernel and tolerance.
    """

    system: ModalSystem
    errors: Float[Tensor, " C"]
    orders: Int[Tensor, " C"]
    certificate: Certificate

    def select(self, channels: Int[Tensor, " c"]) -> Fit:
        """The fit of some channels."""
        least, values, rows = self.certificate
        bounds = Certificate(least[channels], values[channels], rows)
        return Fit(self.system.select(channels), self.errors[channels], self.orders[channels], bounds)


def modal(
    kernel: Float[Tensor, "C L"],
    tolerance: float,
    taps: int = 1,
    max_order: int = 256,
    known: Certificate | None = None,
) -> Fit:
    """The smallest recurrence of each channel that meets a tolerance, beside exact first taps.

    Args:
        kernel: effective coefficients at lags 0..L - 1.
        tolerance: largest relative 2-norm of the error of a channel's kernel.
        taps: p first lags that are kept as they are; 1 for the free tap that every recurrence has.
        max_order: largest number of real states that is tried.
        known: the certificate, where it was made before.
    Returns:
        the fit; channels that miss the tolerance have the order whose error was smallest.
    """
    parts, errors, bounds = [], [], []
    # decompositions hold as many numbers as their matrices
    for block in kernel.double().split(max(1, hankel.BLOCK // hankel.rows_of(kernel.shape[1]) ** 2)):
        found = None
        if known is None:
            least, found = bounded(block, tolerance, max_order)
            bounds.append((least, found.values))
        system, missed = search(block, tolerance, taps, max_order, found if taps == 1 else None)
        parts.append(system)
        errors.append(missed)
    if known is None:
        known = Certificate(
            torch.cat([least for least, _ in bounds]),
            torch.cat([values for _, values in bounds]),
            hankel.rows_of(kernel.shape[1] - 1),
        )
    system = joined(parts)
    return Fit(system, torch.cat(errors), system.orders(), known)


def certificate(kernel: Float[Tensor, "C L"], tolerance: float, max_order: int) -> Certificate:
    """Smallest possible orders and Hankel singular values of lags 1, 2, ...; arguments as in `modal`."""
    blocks = kernel.double().split(max(1, hankel.BLOCK // hankel.rows_of(kernel.shape[1]) ** 2))
    found = [(least, spectrum.values) for least, spectrum in (bounded(block, tolerance, max_order) for block in blocks)]
    least, values = (torch.cat(part) for part in zip(*found, strict=True))
    return Certificate(least, values, hankel.rows_of(kernel.shape[1] - 1))


def bounded(kernel: Float[Tensor, "C L"], tolerance: float, max_order: int) -> tuple[Int[Tensor, " C"], Spectrum]:
    """The smallest possible orders, and the Hankel matrices of lags 1, 2, ... that show them."""
    rest = kernel[:, 1:]
    if rest.shape[1] == 0:
        return torch.zeros(len(kernel), dtype=torch.long), Spectrum(rest, rest[:, None], 0)
    found = hankel.spectrum(rest, min(max_order, hankel.rows_of(rest.shape[1])))
    return hankel.least_order(found.values, found.rows, tolerance * kernel.norm(dim=1)), found


def search(
    kernel: Float[Tensor, "C L"], tolerance: float, taps: int, max_order: int, found: Spectrum | None = None
) -> tuple[ModalSystem, Float[Tensor, " C"]]:
    """The smallest systems within the tolerance and their errors; see `modal`.

    Args:
        found: the Hankel matrices of the lags behind the taps, where they were decomposed before.
    """
    rest = kernel[:, taps:]
    best = ModalSystem(kernel[:, :taps], *(kernel.new_zeros(len(kernel), 0, dtype=torch.complex128),) * 2)
    errors = rounded_error(best, kernel)
    if rest.shape[1] < 2:
        return best, errors
    top = min(max_order, hankel.rows_of(rest.shape[1]) - 1)
    found = hankel.spectrum(rest, top) if found is None else found
    floor = hankel.least_order(found.values, found.rows, tolerance * kernel.norm(dim=1))
    ladder = sorted({min(order, top) for order in LADDER if order < top} | {top})
    # the order below which each channel is known to miss the tolerance, and the ladder's step that met it
    failed, met = torch.zeros(len(kernel), dtype=torch.long), torch.full((len(kernel),), -1)
    met[errors <= tolerance] = 0
    for order in ladder if top > 0 else ():
        open_ = (met < 0).nonzero()[:, 0]
        # the last step is for all, so that the error of a miss is known
        tried = open_[floor[open_] <= order] if order < top else open_
        best, errors = improve(best, errors, kernel, taps, found, tried, order)
        done = tried[errors[tried] <= tolerance]
        met[done] = order
        failed[open_] = torch.where(met[open_] < 0, order, failed[open_])
        if len(done) == len(open_):
            break
    return narrow(best, errors, kernel, taps, found, tolerance, failed.maximum(floor - 1), met)


def narrow(
    best: ModalSystem,
    errors: Float[Tensor, " C"],
    kernel: Float[Tensor, "C L"],
    taps: int,
    found: Spectrum,
    tolerance: float,
    failed: Int[Tensor, " C"],
    met: Int[Tensor, " C"],
) -> tuple[ModalSystem, Float[Tensor, " C"]]:
    """Bisect between the last order that failed and the first that met the tolerance, for every channel."""
    while True:
        middle = (failed + met + 1) // 2
        pending = (met > 0) & (met - failed > 1)
        if not bool(pending.any()):
            return best, errors
        for order in middle[pending].unique().tolist():
            chosen = (pending & (middle == order)).nonzero()[:, 0]
            tried, missed = fitted(kernel[chosen], taps, found, chosen, order)
            fits = missed <= tolerance
            met[chosen[fits]], failed[chosen[~fits]] = order, order
            best, errors = replaced(best, errors, tried, missed, chosen, fits)


def improve(
    best: ModalSystem,
    errors: Float[Tensor, " C"],
    kernel: Float[Tensor, "C L"],
    taps: int,
    found: Spectrum,
    chosen: Int[Tensor, " c"],
    order: int,
) -> tuple[ModalSystem, Float[Tensor, " C"]]:
    """The systems with those channels replaced for which an order is better."""
    if len(chosen) == 0:
        return best, errors
    tried, missed = fitted(kernel[chosen], taps, found, chosen, order)
    return replaced(best, errors, tried, missed, chosen, missed < errors[chosen])


def replaced(
    best: ModalSystem, errors: Tensor, tried: ModalSystem, missed: Tensor, chosen: Tensor, which: Tensor
) -> tuple[ModalSystem, Tensor]:
    """Systems and errors with the channels `chosen[which]` taken from `tried`."""
    modes = max(best.eigenvalues.shape[1], tried.eigenvalues.shape[1])
    best, tried, errors = widened(best, modes), widened(tried, modes), errors.clone()
    target = chosen[which]
    values, weights = best.eigenvalues.clone(), best.weights.clone()
    values[target], weights[target], errors[target] = tried.eigenvalues[which], tried.weights[which], missed[which]
    used = int((weights != 0).sum(1).max())
    return ModalSystem(best.taps, values[:, :used], weights[:, :used]), errors


def fitted(
    kernel: Float[Tensor, "c L"], taps: int, found: Spectrum, chosen: Int[Tensor, " c"], order: int
) -> tuple[ModalSystem, Float[Tensor, " c"]]:
    """Systems of one order, and their errors."""
    parts = []
    # the matrices of the least squares have one entry for every lag and state
    for index in torch.arange(len(chosen)).split(max(1, hankel.BLOCK // (kernel.shape[1] * order))):
        vectors = found.vectors[chosen[index], :, :order]
        values = eigenvalues(vectors)
        parts.append(ModalSystem(kernel[index, :taps], *fold(values, residues(values, kernel[index, taps:]))))
    system = joined(parts)
    return system, rounded_error(system, kernel)


def eigenvalues(vectors: Float[Tensor, "C h r"]) -> Complex[Tensor, "C r"]:
    """Modes whose powers span the leading Hankel vectors, pulled into the unit disc."""
    upper, lower, last = vectors[:, :-1], vectors[:, 1:], vectors[:, -1:]
    # the columns are orthonormal, so that the pseudo-inverse needs one correction of rank one
    moved = upper.mT @ lower
    gap = (1 - (last @ last.mT)).clamp_min(1e-12)
    values = torch.linalg.eigvals(moved + last.mT @ (last @ moved) / gap)
    modulus = values.abs()
    return torch.where(modulus > LARGEST_MODULUS, values * (LARGEST_MODULUS / modulus), values)


def residues(values: Complex[Tensor, "C r"], rest: Float[Tensor, "C L"]) -> Complex[Tensor, "C r"]:
    """Weights of the modes by least squares over all lags, in scaled columns; one weight per conjugate pair.

    Real columns: the real part of a mode's powers where its imaginary part is >= 0, else their imaginary part.
    """
    steps = torch.arange(rest.shape[1], dtype=torch.float64)
    logs = values.abs().clamp_min(1e-30).log()[:, None] * steps[:, None]
    angles = values.angle()[:, None] * steps[:, None]
    columns = logs.exp() * torch.where(values.imag[:, None] >= 0, angles.cos(), angles.sin())
    scale = columns.norm(dim=1, keepdim=True).clamp_min(1e-300)
    solution = torch.linalg.lstsq(columns / scale, rest[..., None], rcond=CONDITION, driver="gelsd").solution
    solution = (solution / scale.mT)[..., 0]
    upper, lower = values.imag > 0, values.imag < 0
    # the partner of a mode is its conjugate
    distance = (values[:, :, None] - values.conj()[:, None]).abs()
    distance = distance.masked_fill(~lower[:, None], torch.inf)
    partner = solution.gather(1, distance.argmin(2))
    # Re(w mode^j) = Re w Re(mode^j) - Im w Im(mode^j), and the conjugate's powers have minus that imaginary part
    return torch.complex(solution, torch.where(upper, partner, 0.0)).masked_fill(lower, 0)


def fold(
    values: Complex[Tensor, "C r"], weights: Complex[Tensor, "C r"]
) -> tuple[Complex[Tensor, "C N"], Complex[Tensor, "C N"]]:
    """Modes with a weight first, the others dropped as far as all channels allow."""
    order = (weights == 0).long().argsort(dim=1, stable=True)
    used = max(1, int((weights != 0).sum(1).max()))
    values, weights = values.gather(1, order)[:, :used], weights.gather(1, order)[:, :used]
    return torch.where(weights == 0, torch.zeros_like(values), values), weights
