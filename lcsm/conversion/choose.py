"""The choice of a recurrence for a kernel, from a method and a tolerance, measured after rounding."""

from __future__ import annotations

from typing import NamedTuple

from lcsm.conversion.etsc import rounding_etsc
from lcsm.conversion.hybrid import hybrid, work
from lcsm.conversion.modal import Certificate, Fit, certificate, modal
from lcsm.conversion.system import rounded_error
from lcsm.errors import UsageError
from lcsm.shapes import Float, Tensor

METHODS = ("auto", "etsc", "modal", "hybrid")


class Choice(NamedTuple):
    """A conversion and the method that gave it."""

    method: str
    fit: Fit


def convert_kernel(kernel: Float[Tensor, "C L"], method: str, tolerance: float, max_order: int) -> Choice:
    """Turn the kernels of all channels of a layer into recurrences.

    Args:
        kernel: effective coefficients at the lags that are to be kept.
        method: etsc (all lags exactly, as many states as lags), modal (fewest modes), hybrid (exact first taps, modes
            beyond), or auto: the least work among those that meet the tolerance,
            the exact etsc where none does.
        tolerance: largest relative 2-norm of the error of a channel's kernel.
        max_order: largest number of real states that modal and hybrid try.
    Raises:
        UsageError: the tolerance is not positive, or modal or hybrid miss it.
    """
    if method not in METHODS:
        raise UsageError(f"method={method} must be one of {', '.join(METHODS)}")
    if not tolerance > 0:
        raise UsageError(f"tolerance={tolerance} must be greater than 0, e.g. 1e-4")
    if method == "etsc":
        return Choice("etsc", exact(kernel, certificate(kernel, tolerance, max_order)))
    if method != "auto":
        fit = {"modal": modal, "hybrid": hybrid}[method](kernel, tolerance, max_order=max_order)
        refuse_misses(fit, method, tolerance)
        return Choice(method, fit)
    found = [Choice("modal", modal(kernel, tolerance, max_order=max_order))]
    known = found[0].fit.certificate
    # exact taps are worth their state where the rest needs many modes
    if work(found[0].fit.system) > 24 or float(found[0].fit.errors.max()) > tolerance:
        found.append(Choice("hybrid", hybrid(kernel, tolerance, None, max_order, known)))
    found.append(Choice("etsc", exact(kernel, known)))
    good = [choice for choice in found if float(choice.fit.errors.max()) <= tolerance]
    return min(good or found[-1:], key=lambda choice: work(choice.fit.system))


def exact(kernel: Float[Tensor, "C L"], known: Certificate) -> Fit:
    """ETSC in the form that rounding harms least."""
    system = rounding_etsc(kernel.double())
    return Fit(system, rounded_error(system, kernel), system.orders(), known)


def refuse_misses(fit: Fit, method: str, tolerance: float) -> None:
    """Say how near a fit came and which orders are impossible, where it misses the tolerance."""
    missed = fit.errors > tolerance
    if not bool(missed.any()):
        return
    worst = int(fit.errors.argmax())
    least = int(fit.certificate.least[worst])
    raise UsageError(
        f"method={method} misses tolerance={tolerance:g} in {int(missed.sum())} of {len(missed)} channels (worst "
        f"{float(fit.errors[worst]):.2g} at best; no recurrence below {least} meets it "
        "there):\nuse method=etsc, a larger tolerance, or convert nothing and stream exactly with stream=tiles"
    )
