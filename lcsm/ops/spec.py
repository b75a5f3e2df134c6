"""Everything about a mixer that is known when the model is built, and which stages may go together."""

from dataclasses import dataclass

from lcsm.errors import UsageError

KINDS = ("diagonal", "low_rank", "dense", "shift")


def varies(axes: str | None, along: str) -> bool:
    """Whether a declaration such as "LHN+LHP" names one of the axes `along`."""
    return axes is not None and any(axis in axes for axis in along)


def mixed(axes: str | None) -> bool:
    """Whether a declaration has N and P in one summand, so that no sum of vectors describes it: "HNP", "HN*LHP"."""
    return axes is not None and any("N" in term and "P" in term for term in axes.split("+"))


@dataclass(frozen=True, kw_only=True)
class RecurrenceSpec:
    """The static description from which an algorithm is chosen.

    A declaration names the axes along which a value varies: `L` implies `B`; `*` joins factors, `+` summands; "" is one
    number, None is absent. Examples: "H" RetNet, "LHN" GLA, "LHN+LHP" DUR, "HN*LH" Mamba, "HNP" learned N x P.

    Args:
        kind: structure that the oscillation returns: diagonal, low_rank, dense or shift.
        decay, phase, gain: declarations of the oscillation.
        expand, shrink: declarations of those stages.
        num_heads, state_dim, value_dim: H, N and P; P without the denominator's column.
        reads: "vector", or "memory" where the shrink receives the whole memory (then P = 1).
        pairs: modes stand for conjugate pairs; what is read is 2 Re(.).
        exclusive: reads the memory before the decay and the write of the same step.
        substeps: writes per token.
        stabilised: a running maximum rewrites decay and gain.
        denominator: the memory has one more column that sums the weights.
        growing: decays may exceed 1.
        complex_inputs: what is written is complex whatever the expand.
    """

    kind: str
    decay: str | None = None
    phase: str | None = None
    gain: str | None = None
    expand: str
    shrink: str
    num_heads: int
    state_dim: int
    value_dim: int
    reads: str = "vector"
    pairs: bool = False
    exclusive: bool = False
    substeps: int = 1
    stabilised: bool = False
    denominator: bool = False
    growing: bool = False
    complex_inputs: bool = False

    @property
    def direction(self) -> str:
        """Declaration of the expand once the gain has been placed on it."""
        return f"{self.expand}*{self.gain}" if varies(self.gain, "N") else self.expand

    @property
    def rate(self) -> str | None:
        """Declaration of the decay as algorithms see it: a running maximum makes it data-driven."""
        return f"{self.decay or ''}+LH" if self.stabilised else self.decay

    @property
    def per_channel(self) -> bool:
        """Whether some factor couples N and P, so that every memory entry is a system of its own."""
        return any(mixed(axes) for axes in (self.rate, self.phase, self.direction, self.shrink))

    @property
    def constant(self) -> bool:
        """Whether nothing but the inputs changes with time."""
        return not any(varies(axes, "L") for axes in (self.rate, self.phase, self.direction, self.shrink))

    @property
    def constant_oscillation(self) -> bool:
        """Whether the oscillation is the same at every step."""
        return not any(varies(axes, "L") for axes in (self.rate, self.phase))

    def summary(self) -> str:
        """The structure with the axes of its decay, phase and gain, e.g. "diagonal, decay LHN"."""
        parts = [(name, getattr(self, name)) for name in ("decay", "phase", "gain")]
        return ", ".join([self.kind, *(f"{name} {axes or 'constant'}" for name, axes in parts if axes is not None)])

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"oscillation kind={self.kind!r} is not a structure: choose one of {', '.join(KINDS)}")
        for refusal in self._refusals():
            raise UsageError(refusal)

    def _refusals(self) -> list[str]:
        """The illegal pairs: each text names both stages and the ways out."""
        found = []
        if self.reads == "memory" and self.value_dim != 1:
            found.append(
                f"shrink reads the whole memory, which needs value_dim=1, but mixer.value_dim={self.value_dim}:\n"
                "set mixer.value_dim=1 with input=ones, or use shrink=data_driven"
            )
        if self.denominator and any(varies(axes, "P") for axes in (self.decay, self.gain, self.expand, self.shrink)):
            found.append(
                f"normaliser=denominator needs decay, gain, expand and shrink that are constant along P, but they vary "
                f"as decay={self.decay!r}, gain={self.gain!r}, expand={self.expand!r}, shrink={self.shrink!r}:\n"
                "use normaliser=layer_norm, or stages that vary along N only"
            )
        if self.denominator and self.reads == "memory":
            found.append(
                "normaliser=denominator divides value columns, but this shrink reads the whole memory:\n"
                "use normaliser=layer_norm or identity, or shrink=data_driven"
            )
        if varies(self.gain, "N") and varies(self.gain, "P"):
            found.append(f"oscillation gain={self.gain!r} varies along N and P at once: let it vary along one of them")
        if varies(self.gain, "L") and varies(self.gain, "N") and varies(self.expand, "P"):
            found.append(
                f"this oscillation scales the expand along N at every step (gain={self.gain!r}), "
                f"but expand={self.expand!r} varies along P:\n"
                "keep the oscillation with expand=data_driven or learned, or keep the expand with oscillation=diag"
            )
        if self.pairs and self.phase is None and self.kind == "diagonal":
            found.append(
                "oscillation.pairs=true needs a phase, but the oscillation has none: set oscillation.pairs=false"
            )
        if self.kind in ("dense", "low_rank") and any(varies(axes, "P") for axes in (self.expand, self.shrink)):
            found.append(
                f"a {self.kind} oscillation mixes the rows of the memory and needs expand and shrink that are constant "
                f"along P, but expand={self.expand!r}, shrink={self.shrink!r}:\n"
                "use data_driven or learned for both, or keep them with oscillation=diag"
            )
        if self.growing and not (self.constant and self.reads == "vector" and not self.complex_inputs):
            found.append(
                "an oscillation whose modes may grow is served by its kernel only, which needs a constant expand and "
                f"shrink and real inputs, but expand={self.expand!r}, shrink={self.shrink!r}, read as a {self.reads}"
                f"{', complex inputs' if self.complex_inputs else ''}:\n"
                "use expand=hand_crafted with shrink=learned_complex, or set oscillation.real=exp"
            )
        if self.stabilised and varies(self.decay, "NP"):
            found.append(
                f"a running maximum needs a decay per head, but decay={self.decay!r}: let it vary along L and H only"
            )
        if self.stabilised and self.substeps > 1:
            found.append(
                f"a running maximum bounds one write per token, but there are {self.substeps}: let one be left"
            )
        return found
