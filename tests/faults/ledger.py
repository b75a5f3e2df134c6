"""What is counted: how many faults of a kind were tried and survived, and what each of the others lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# under which a row travels in the properties of a test's report
PROPERTY = "faults"


@dataclass
class Row:
    """One kind of fault.

    Args:
        name: what was done.
        survived: faults without a loss.
        lost: what every other one lost, one phrase each.
    """

    name: str
    survived: int = 0
    lost: list[str] = field(default_factory=list)

    def note(self, loss: str) -> None:
        """Count one fault; the empty text means that nothing was lost."""
        if loss:
            self.lost.append(loss)
        else:
            self.survived += 1

    @property
    def losses(self) -> str:
        """One line for each fault that was not survived, or one where none was tried; "" where all were."""
        lines = self.lost or ([] if self.survived else ["nothing was tried"])
        return "\n".join([f"{self.name}: {len(self.lost)} lost", *lines]) if lines else ""


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The lines of the table at the end, the last one with the sums.

    Args:
        rows: the fields of `Row`.
    """
    lines = [f"{'fault':<76}{'tried':>7}{'survived':>10}{'lost':>6}"]
    sums = [0, 0, 0]
    for row in rows:
        counts = [row["survived"] + len(row["lost"]), row["survived"], len(row["lost"])]
        sums = [total + number for total, number in zip(sums, counts, strict=True)]
        lines.append("{:<76}{:>7}{:>10}{:>6}".format(row["name"], *counts))
    return [*lines, "faults tried {}, survived {}, lost {}".format(*sums)]
