"""Checks of a composed configuration: keys, types, ranges, names.

Every fault raises a `UsageError` that names the key. Nothing that a configuration names is called here, and of it only
modules of lcsm are imported, for the signatures of their classes; what needs none of these is checked before.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any, Literal

from lcsm.config import schemas
from lcsm.config.annotations import Range, accepts, words
from lcsm.config.locate import classes, conf_directory, options
from lcsm.config.resolvers import divisors
from lcsm.config.shipped import reference, switches
from lcsm.config.signatures import Signature, names, of_target
from lcsm.config.suggest import did_you_mean, listed
from lcsm.errors import UsageError, shortened

Node = dict[str, Any]

# What the builder passes to a component by name; these are no settings of it.
SIZES = frozenset({"input_dim", "d_model", "num_heads", "state_dim", "value_dim", "layer", "num_layers", "common"})
# What a mixer passes to its parts.
PARTS = frozenset({"recurrence", "make_shrink", "normaliser", "num_heads", "written", "seen", "width", "gate_dim"})
PROVIDED: dict[str, frozenset[str]] = {
    **dict.fromkeys((*schemas.STAGES, "channel"), SIZES),
    "mixer": frozenset({"d_model", "layer", "num_layers", "stages"}),
    "task": frozenset({"model", "optimise"}),
    "optim": frozenset({"params"}),
}
# The mixer that has stages.
EOS = "lcsm.mixers.eos.EosMixer"
# Settings of a part of a mixer, by the names that they had when the mixer held them.
MOVED = {
    "skip": "skip.of",
    "skip_init": "skip.init",
    "reverse": "reverse.shrink",
    "reverse_exclusive": "reverse.exclusive",
    "output": "output.form",
    "activation": "output.activation",
    "gate": "output.gate",
    "gate_rank": "output.gate_rank",
    "gate_first": "output.norm",
    "bias": "output.bias",
}
# Groups whose options were chosen by `name` in earlier versions.
NAMED = ("optim", "schedule")
# Settings that the builder fills in where they are null.
DERIVED = {"mixer": frozenset({"value_dim"})}
# As many threads as the largest machines have cores: a run may be planned on a smaller one.
MANY_THREADS = 256
# Groups whose classes take every setting from the configuration and have no defaults of their own.
COMPLETE = frozenset({*schemas.MIXER_GROUPS, "channel", "release", "data"})


def check_config(config: Node) -> None:
    """Keys, types and ranges of the whole configuration.

    Args:
        config: the resolved configuration as plain dictionaries.
    Raises:
        UsageError: an unknown key, a missing one, a value of a wrong type or out of range.
    """
    root = schemas.signature(schemas.Train)
    required = root.required | set(schemas.GROUPS) - set(schemas.LATER)
    everything = Signature(root.fields | dict.fromkeys(schemas.GROUPS, Any), required)
    check_fields("", config, everything, "the configuration")
    check_finite("", config)
    for group, schema in schemas.SCHEMAS.items():
        check_fields(f"{group}.", mapping(config, group), schemas.signature(schema), f"{group}/")
    for group in schemas.SWITCHES:
        check_switches(f"{group}.", mapping(config, group), switches(group))
    check_threads(config["threads"])
    check_release(config)
    refuse_stages("", config)
    for group in schemas.COMPONENTS:
        check_component(group, group, config.get(group), config)
    for name, groups in config["mixers"].items():
        check_named_mixer(name, groups, config)
    check_pattern(config)
    check_sizes(config)
    check_betas(config["optim"].get("betas"))


def mapping(config: Node, key: str) -> Node:
    """The node of a group that must be a mapping."""
    if not isinstance(config[key], dict):
        raise UsageError(f"{key}={config[key]!r} must name an option of {key}/ or hold its settings")
    return config[key]


def check_fields(
    prefix: str, node: Node, signature: Signature, owner: str, provided: frozenset[str] = frozenset()
) -> None:
    """The keys and values of a node against a signature.

    Args:
        prefix: path of the node with its dot, "" for the root.
        node: settings.
        signature: what the owner takes.
        owner: what the settings belong to, for messages.
        provided: names that the builder gives and a configuration must not.
    """
    known = {name: rule for name, rule in signature.fields.items() if name not in provided}
    for key, value in node.items():
        if key in known:
            check_value(f"{prefix}{key}", value, known[key])
        elif not signature.open:
            hint = did_you_mean(str(key), known)
            raise UsageError(
                f"{prefix}{key}={value!r} is not a setting of {owner}{hint}\nits settings: {listed(known)}"
            )
    for key in known:
        if key in signature.required and key not in node:
            raise UsageError(f"{prefix}{key} is missing: {owner} needs it; add {prefix}{key}=... ({words(known[key])})")


def check_value(path: str, value: Any, rule: Any) -> None:
    """One value against its annotation."""
    if not accepts(value, rule):
        raise UsageError(f"{path}={shown(value)} must be {words(rule)}")


def shown(value: Any) -> str:
    """A value as it is written in a configuration."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return repr(value)


def check_finite(path: str, value: Any) -> None:
    """No NaN or infinity anywhere, and settings with a known range within it."""
    if isinstance(value, dict):
        for key, item in value.items():
            check_finite(f"{path}.{key}" if path else str(key), item)
    elif isinstance(value, list):
        for item in value:
            check_finite(path, item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise UsageError(f"{path}={value} must be a finite number")
        rule: Range | None = schemas.RANGES.get(path.rpartition(".")[2])
        if rule is not None and not rule.holds(value):
            raise UsageError(f"{path}={value} must be {rule.words()}")


def check_component(path: str, group: str, node: Any, config: Node) -> None:
    """A node that names a class, and the nodes inside it."""
    if not node:
        if group not in schemas.OPTIONAL:
            raise UsageError(f"{path}=none is not possible: choose an option of {group}/")
        return
    if not isinstance(node, dict):
        raise UsageError(f"{path}={node!r} must name an option of {group}/ or hold its settings")
    for inner_path, inner in nested(path, node):
        if inner.get("_target_") not in config["allow_targets"]:
            check_ours(inner_path, group, inner, inner is not node)


def nested(path: str, value: Any) -> Iterator[tuple[str, Node]]:
    """A node and every node inside it that names a class."""
    if isinstance(value, dict):
        yield path, value
        for key, item in value.items():
            yield from ((inner, node) for inner, node in nested(f"{path}.{key}", item) if "_target_" in node)
    elif isinstance(value, list):
        for item in value:
            yield from ((inner, node) for inner, node in nested(path, item) if "_target_" in node)


def check_ours(path: str, group: str, node: Node, is_inner: bool) -> None:
    """A component of lcsm against its signature, or one that a shipped YAML file names against that file."""
    target = node.get("_target_")
    settings = {key: value for key, value in node.items() if key != "_target_"}
    if group in NAMED and "name" in node:
        raise UsageError(former_name(group, shortened(repr(node["name"]))))
    if not isinstance(target, str) or not target.startswith("lcsm."):
        known = reference(group).get(str(target))
        if known is None:
            raise UsageError(unknown_target(path, group, target))
        check_fields(f"{path}.", settings, declared(group, known), str(target).rpartition(".")[2])
        return
    if target == EOS:
        refuse_moved(path, settings)
    signature = of_target(target)
    if signature is None:
        raise UsageError(f"{path}._target_={target} does not exist in lcsm{place_of(target)}")
    provided = PROVIDED.get(group, frozenset())
    if is_inner:
        provided |= PARTS if group == "mixer" else SIZES
    derived = {name: Any for name in DERIVED.get(group, ()) if settings.get(name, 0) is None}
    required = signature.required if group in COMPLETE else frozenset()
    signature = Signature(signature.fields | derived, required, signature.open)
    check_fields(f"{path}.", settings, signature, target.rpartition(".")[2], provided)


def declared(group: str, signature: Signature) -> Signature:
    """The settings of a node: the arguments of its class, and in `optim` those of parameter groups."""
    if group != "optim":
        return signature
    own = schemas.signature(schemas.Learning)
    return Signature(signature.fields | own.fields, signature.required | own.required, signature.open)


def place_of(target: str) -> str:
    """The place of a class of lcsm that a configuration, such as that of an older checkpoint, looks for elsewhere."""
    module, _, name = target.rpartition(".")
    place = classes().get(name)
    return f": it is {place}.{name} now" if place else did_you_mean(name, names(module) or classes())


def refuse_moved(path: str, settings: Node) -> None:
    """Refuse the words of earlier versions for what a part of a mixer holds now."""
    for key in MOVED:
        if key in settings and not isinstance(settings[key], dict):
            raise UsageError(moved(f"{path}.{key}={shown(settings[key])}", path, key))


def moved(written: str, path: str, key: str) -> str:
    """The message for a setting of a mixer that a part of it holds now."""
    return f"{written} is a setting of a part of the mixer: it is {path}.{MOVED[key]} now"


def former_name(group: str, value: str) -> str:
    """`optim.name=adamw`, a word of earlier versions."""
    return (
        f"{group}.name={value} is a word of an earlier version, a class is named by {group}._target_ now:\n"
        f"choose an option, {group}=NAME, or write the class, {group}._target_=package.module.Class\n"
        f"options of {group}: {listed(options(conf_directory())[group])}"
    )


def refuse_stages(prefix: str, groups: Node) -> None:
    """Refuse stages, and settings of a mixer that has some, beside a mixer of lcsm that takes none."""
    node = groups["mixer"]
    target = str(node.get("_target_")) if isinstance(node, dict) else ""
    signature, whole = of_target(target), of_target(EOS)
    if not target.startswith("lcsm.mixers.") or signature is None or whole is None or "stages" in signature.fields:
        return
    needed = [f"{prefix}{group}=none" for group in schemas.STAGES if groups.get(group)]
    needed += [f"no {prefix}mixer.{key}" for key in node if key in whole.fields and key not in signature.fields]
    if needed:
        raise UsageError(
            f"{prefix}mixer is {target.rpartition('.')[2]}, which takes no stages: it needs {', '.join(needed)}\n"
            "choose model=attention, another mixer, or attention in some layers: "
            "+mixer@mixers.attention.mixer=attention model.pattern=[main,attention]"
        )


def unknown_target(path: str, group: str, target: Any) -> str:
    """The message for a node that names no known class."""
    if target is None:
        return f"{path} names no class: it needs _target_=package.module.Class, or an option of {group}/"
    return (
        f"{path}._target_={target} is not part of lcsm and would run code of its own:\n"
        f"add allow_targets=[{target}] if it is a class of yours that you trust"
    )


def check_switches(prefix: str, node: Node, known: dict[str, Any]) -> None:
    """Switches and settings against the shape of the shipped files.

    Args:
        prefix: path of the node with its dot.
        node: what the user chose.
        known: name -> annotation, or the same for the settings of a switch that has some.
    """
    flat = {name: dict | Literal[False] | None if isinstance(rule, dict) else rule for name, rule in known.items()}
    check_fields(prefix, node, Signature(flat), f"{prefix[:-1]}")
    for key, value in node.items():
        if isinstance(value, dict) and isinstance(known[key], dict):
            check_switches(f"{prefix}{key}.", value, known[key])


def check_named_mixer(name: str, groups: Any, config: Node) -> None:
    """The groups of one mixer of a hybrid."""
    path = f"mixers.{name}"
    if name == "main":
        raise UsageError("mixers.main is taken: main is the mixer of the groups mixer, source, input, expand, ...")
    if not isinstance(groups, dict) or "mixer" not in groups:
        raise UsageError(f"{path} needs a mixer: e.g. +mixer@{path}.mixer=attention")
    for group in groups:
        if group not in schemas.MIXER_GROUPS:
            hint = did_you_mean(group, schemas.MIXER_GROUPS)
            raise UsageError(f"{path}.{group} is not a group of a mixer{hint}\nchoose {listed(schemas.MIXER_GROUPS)}")
    refuse_stages(f"{path}.", groups)
    for group, node in groups.items():
        check_component(f"{path}.{group}", group, node, config)


def check_pattern(config: Node) -> None:
    """Every name in model.pattern is a mixer, and every named mixer is used."""
    pattern, mixers = config["model"]["pattern"], ("main", *config["mixers"])
    if not pattern:
        raise UsageError("model.pattern=[] must name at least one mixer, e.g. [main]")
    for name in pattern:
        if name not in mixers:
            raise UsageError(
                f"model.pattern names {name!r}, which is no mixer{did_you_mean(name, mixers)}\n"
                f"mixers: {', '.join(mixers)}; another one: +mixer@mixers.{name}.mixer=attention"
            )
    for name in config["mixers"]:
        if name not in pattern:
            raise UsageError(
                f"mixers.{name} is in no layer: model.pattern=[{','.join(pattern)}] must name it, "
                f"e.g. model.pattern=[main,{name}]"
            )


def check_release(config: Node) -> None:
    """A release to start as, where that is asked for."""
    if config["model"].get("init") != "release" or config.get("release"):
        return
    files = sorted((conf_directory() / "model").glob("*.yaml"))
    models = [path.stem for path in files if "override /release:" in path.read_text(encoding="utf-8")]
    raise UsageError(
        f"model.init=release: {config['model']['name']} has no release known to start weights unlike torch.nn\n"
        "set model.init=torch, or choose the start of another release, e.g. release=normal\n"
        f"models that have one: {listed(models)}"
    )


def check_threads(threads: int | None) -> None:
    """Refuse threads that no machine serves: some need minutes to start so many, others lack the room for them."""
    cores = os.cpu_count() or 1
    most = max(MANY_THREADS, 4 * cores)
    if threads is not None and not 1 <= threads <= most:
        raise UsageError(
            f"threads={threads} must be 1 to {most}: this machine has {cores} cores, and null leaves it to torch"
        )


def check_betas(betas: Any) -> None:
    """The two running means of Adam; other optimisers have none."""
    if betas is None:
        return
    numbers = isinstance(betas, list) and all(accepts(beta, float) and 0 <= beta < 1 for beta in betas)
    if not numbers or len(betas) != 2:
        raise UsageError(f"optim.betas={betas} must be a list of two numbers, 0 <= each < 1, e.g. [0.9, 0.95]")


def check_sizes(config: Node) -> None:
    """Settings of different groups fit each other: heads divide the width they share, the drawn layer exists."""
    width, layers = config["model"]["d_model"], config["model"]["num_layers"]
    figures = config["callbacks"].get("figures")
    layer = figures.get("layer") if isinstance(figures, dict) else None
    if isinstance(layer, int) and not 0 <= layer < layers:
        raise UsageError(
            f"callbacks.figures.layer={layer} must be at least 0 and below model.num_layers={layers}: "
            "use callbacks.figures.layer=0"
        )
    named = {f"mixers.{name}.mixer": node["mixer"] for name, node in config["mixers"].items()}
    for path, mixer in ({"mixer": config["mixer"]} | named).items():
        heads = mixer.get("num_heads")
        if isinstance(heads, int) and mixer.get("value_dim") is None and width % heads:
            near = sorted(sorted(divisors(width), key=lambda divisor: abs(divisor - heads))[:2])
            raise UsageError(
                f"{path}.num_heads={heads} must divide model.d_model={width}; choose {' or '.join(map(str, near))}"
            )
