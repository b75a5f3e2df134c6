"""Every long convolution of a language model as a recurrence: a configuration and weights that build without it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from lcsm.conversion.choose import Choice, convert_kernel
from lcsm.conversion.system import ModalSystem
from lcsm.errors import UsageError
from lcsm.models.build import build_model
from lcsm.models.language_model import LanguageModel
from lcsm.models.long_convolutions import Site, find_sites
from lcsm.shapes import Tensor
from lcsm.stages.long_convolution.block import ShiftBlock
from lcsm.stages.long_convolution.modal import ModalKernel, ModalOscillation, ModalShrink
from lcsm.structures import widen

PACKAGE = "lcsm.stages"
# eigenvalue of modes without a weight
UNUSED = 0.5
# largest number of real states that is tried where nothing else is said
MAX_ORDER = 256
GROUPS = ("mixer", "source", "input", "expand", "oscillation", "shrink", "normaliser")
RECURRENT = (
    "has no long convolution: its mixers are recurrences of constant size already, or attention, "
    "and lcsm generate streams them as they are"
)


class Converted(NamedTuple):
    """A converted model.

    Args:
        config: the whole configuration, which builds it.
        model: in eval mode.
        sites: what was converted.
        choices: how, in the same order.
        lags: tokens up to which the conversion holds.
    """

    config: dict[str, Any]
    model: LanguageModel
    sites: list[Site]
    choices: list[Choice]
    lags: list[int]


def convert_model(
    config: Mapping[str, Any],
    model: LanguageModel,
    method: str,
    tolerance: float,
    lags: int | None = None,
    max_order: int = MAX_ORDER,
) -> Converted:
    """Convert every long convolution of a language model.

    Args:
        config: the configuration that built it.
        model: with its weights.
        method, tolerance, max_order: as in `choose.convert_kernel`.
        lags: tokens for which the recurrence is to hold; None for the lags that each memory holds. Beyond the memory
            the kernel is zero, which costs modes.
    Raises:
        UsageError: there is nothing to convert, something reads the future, or a method misses the tolerance.
    """
    sites = find_sites(model)
    if not sites:
        raise UsageError(f"the model {config['model']['name']} {RECURRENT}")
    kept = [site.lags if lags is None else lags for site in sites]
    if min(kept) < 1:
        raise UsageError(f"lags={lags} must be at least 1")
    choices = convert_kernels(sites, kept, method, tolerance, max_order)
    changed = converted_config(config, sites, choices)
    with torch.device(next(model.parameters()).device):
        recurrent = build_model(changed, model.vocab_size)
    replaced = tuple(f"{site.name}.shrink." for site in sites)
    weights = recurrent.state_dict()
    weights |= {
        name: value for name, value in model.state_dict().items() if name in weights and not name.startswith(replaced)
    }
    recurrent.load_state_dict(weights)
    for site, choice in zip(sites, choices, strict=True):
        fill(recurrent.get_submodule(site.name), choice.fit.system.rounded(widen(model.embedding.weight).dtype))
    return Converted(changed, recurrent.eval(), sites, choices, kept)


def convert_kernels(sites: list[Site], lags: list[int], method: str, tolerance: float, max_order: int) -> list[Choice]:
    """The recurrence of every site; those that one node of the configuration describes are converted together."""
    groups: dict[tuple[int, bool], list[int]] = {}
    for index, site in enumerate(sites):
        groups.setdefault((site.layer, is_inner(site)), []).append(index)
    found: dict[int, Choice] = {}
    for members in groups.values():
        kernels = [sites[index].kernel(lags[index]) for index in members]
        try:
            choice = convert_kernel(torch.cat(kernels), method, tolerance, max_order)
        except UsageError as error:
            raise UsageError(f"{sites[members[0]].name}: {error}") from error
        first = 0
        for index, kernel in zip(members, kernels, strict=True):
            channels = torch.arange(first, first + len(kernel))
            found[index] = Choice(choice.method, choice.fit.select(channels))
            first += len(kernel)
    return [found[index] for index in range(len(sites))]


def is_inner(site: Site) -> bool:
    """Whether the convolution is inside a stage of its mixer."""
    return isinstance(site.module, ShiftBlock)


def sizes_of(sites: list[Site], choices: list[Choice]) -> dict[tuple[int, bool], tuple[int, int]]:
    """Taps and modes for each layer, of its mixer and of what is inside."""
    return {
        (site.layer, is_inner(site)): (choice.fit.system.taps.shape[1], max(1, choice.fit.system.eigenvalues.shape[1]))
        for site, choice in zip(sites, choices, strict=True)
    }


def converted_config(config: Mapping[str, Any], sites: list[Site], choices: list[Choice]) -> dict[str, Any]:
    """The configuration with a named mixer for every converted layer; equal ones share a name."""
    changed = copy.deepcopy(dict(config))
    model, sizes = changed["model"], sizes_of(sites, choices)
    given = {"main": config, **(config.get("mixers") or {})}
    pattern = [model["pattern"][layer % len(model["pattern"])] for layer in range(model["num_layers"])]
    names: dict[str, str] = {}
    changed["mixers"] = dict(changed.get("mixers") or {})
    for layer in sorted({site.layer for site in sites}):
        groups = {name: copy.deepcopy(given[pattern[layer]].get(name)) for name in GROUPS}
        if (layer, False) in sizes:
            groups |= recurrent_groups(groups, *sizes[layer, False])
        if (layer, True) in sizes:
            taps, modes = sizes[layer, True]
            groups["input"]["shrink"] = {
                "_target_": f"{PACKAGE}.long_convolution.modal.ModalKernel",
                "modes": modes,
                "taps": taps,
            }
        name = names.setdefault(json.dumps(groups, sort_keys=True), f"recurrent_{layer}")
        changed["mixers"][name] = groups
        pattern[layer] = name
    model["pattern"] = pattern
    return changed


def recurrent_groups(groups: dict[str, Any], taps: int, modes: int) -> dict[str, Any]:
    """The nodes of a mixer that differ once its convolution is a recurrence."""
    ones = {"_target_": f"{PACKAGE}.vectors.expand.HandCraftedExpand", "values": "ones", "activation": "identity"}
    return {
        "mixer": groups["mixer"] | {"state_dim": taps + modes, "algorithm": "auto"},
        "expand": {"_target_": f"{PACKAGE}.vectors.expand.Newest"} if taps else ones,
        "oscillation": {"_target_": f"{PACKAGE}.long_convolution.modal.ModalOscillation", "taps": taps},
        "shrink": {"_target_": f"{PACKAGE}.long_convolution.modal.ModalShrink", "taps": taps},
    }


def fill(module: Any, system: ModalSystem) -> None:
    """Write a recurrence into the stages of a mixer, or of a convolution inside a stage."""
    inner = module.shrink if isinstance(module.shrink, ModalKernel) else None
    oscillation = module.oscillation if inner is None else inner.oscillation
    shrink = module.shrink if inner is None else inner.weights
    assert isinstance(oscillation, ModalOscillation) and isinstance(shrink, ModalShrink), "the configuration says so"
    heads, modes, columns = oscillation.eigenvalues.shape[:3]

    def placed(value: Tensor, rows: int) -> Tensor:
        value = torch.nn.functional.pad(value, (0, rows - value.shape[1]))
        return value.unflatten(0, (heads, columns)).transpose(1, 2).contiguous()

    with torch.no_grad():
        values = placed(system.eigenvalues, modes)
        # modes that a channel does not need may be trained later: the angle of zero has no gradient
        values = torch.where(values == 0, torch.full_like(values, UNUSED), values)
        oscillation.eigenvalues.copy_(torch.view_as_real(values))
        # what is read is twice the real part
        shrink.weights.copy_(torch.view_as_real(placed(system.weights / 2, modes)))
        if shrink.taps is not None:
            shrink.taps.copy_(placed(system.taps, oscillation.taps))
