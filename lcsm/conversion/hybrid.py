"""Exact first taps and modes for the rest: learned kernels are often spiky near lag 0 and smooth elsewhere."""

from __future__ import annotations

from lcsm.conversion.modal import Certificate, Fit, modal, search
from lcsm.conversion.system import ModalSystem
from lcsm.shapes import Float, Tensor

# channels on which the numbers of taps are compared, evenly spread
SAMPLE = 16
FEWEST_TAPS = 4


def work(system: ModalSystem) -> int:
    """Real multiplications per token and channel: one for a tap, six for a complex mode."""
    return system.taps.shape[1] + 6 * system.eigenvalues.shape[1]


def hybrid(
    kernel: Float[Tensor, "C L"],
    tolerance: float,
    taps: int | None = None,
    max_order: int = 256,
    known: Certificate | None = None,
) -> Fit:
    """The cheapest split of a kernel into first taps and modes that meets a tolerance.

    Args:
        kernel, tolerance, max_order, known: as in `modal`.
        taps: p; None tries 1, 4, 8, 16, ... up to a quarter of the kernel on some of the channels.
    """
    kernel = kernel.double()
    if taps is None:
        taps = best_taps(kernel[:: -(-len(kernel) // SAMPLE)], tolerance, max_order)
    return modal(kernel, tolerance, taps, max_order, known)


def best_taps(kernel: Float[Tensor, "C L"], tolerance: float, max_order: int) -> int:
    """The number of taps with the least work among those that meet the tolerance, or with the smallest error."""
    length, choices = kernel.shape[1], [1]
    taps = FEWEST_TAPS
    while taps <= length // 4:
        choices.append(taps)
        taps *= 2
    best: tuple[bool, float, int] | None = None
    for taps in choices:
        system, errors = search(kernel, tolerance, taps, max_order)
        missed = float(errors.max())
        found = (missed > tolerance, missed if missed > tolerance else float(work(system)), taps)
        best = found if best is None else min(best, found)
        if not best[0] and best[1] <= 2 * taps:
            # more taps alone would cost as much
            break
    assert best is not None, "one tap is always tried"
    return best[2]
