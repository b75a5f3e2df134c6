"""The builder: a model from a resolved configuration, stage by stage."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from lcsm.batch import Targets
from lcsm.components import resolve
from lcsm.errors import UsageError
from lcsm.mixers.base import Mixer
from lcsm.mixers.compatibility import Stages
from lcsm.mixers.eos import EosMixer
from lcsm.mixers.output import Output
from lcsm.mixers.second_pass import SecondPass
from lcsm.mixers.skip import Skip
from lcsm.models.backbone import Backbone
from lcsm.models.block import Block
from lcsm.models.channel import Channel
from lcsm.models.classifier import PairClassifier, SequenceClassifier
from lcsm.models.initialisation import Release, seeded
from lcsm.models.language_model import LanguageModel
from lcsm.ops.dispatch import runs_on
from lcsm.stages.base import Expand, Input, Normaliser, Oscillation, Shrink, Source, Stage
from lcsm.structures import Context

Model = TypeVar("Model", LanguageModel, SequenceClassifier)

STAGES = {"source": Source, "input": Input, "expand": Expand, "oscillation": Oscillation, "shrink": Shrink}
# The parts that a mixer of stages makes itself.
PARTS = {"skip": Skip, "reverse": SecondPass, "output": Output}
BASES = {**STAGES, "normaliser": Normaliser, "mixer": Mixer, "channel": Channel, "release": Release}


class Builder:
    """Builds the parts of one model.

    Args:
        config: the resolved configuration as plain dictionaries; `conf/train.yaml` is its table of contents.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config, self.model = config, config["model"]
        self.allowed = tuple(config.get("allow_targets") or ())
        # modules that several layers use, made by the first of them
        self.common: dict[tuple[Any, ...], nn.Module] = {}

    def make(self, group: str, node: dict[str, Any], name: str, **provided: Any) -> Any:
        """One component: the class that `node` names, with the YAML's settings and what the builder provides."""
        component = resolve(group, node, BASES[group], self.allowed)
        settings = {key: value for key, value in node.items() if key != "_target_"}
        accepted = inspect.signature(component).parameters
        given = {key: value for key, value in provided.items() if key in accepted}
        # a setting named after a stage holds one that the component makes itself, as often as it needs it
        for key, value in settings.items():
            if key in STAGES and isinstance(value, dict):
                settings[key] = partial(self.make, key, value, f"{name}.{key}", **provided)
        with seeded(self.config["seed"], name):
            return component(**given, **settings)

    def mixer(self, groups: dict[str, Any], layer: int, name: str) -> Mixer:
        """A token mixer from the groups mixer, source, input, expand, oscillation, shrink and normaliser."""
        node = dict(groups["mixer"])
        sizes = {"d_model": self.model["d_model"], "layer": layer, "num_layers": self.model["num_layers"]}
        sizes["common"] = self.common
        component = resolve("mixer", node, Mixer, self.allowed)
        if not issubclass(component, EosMixer):
            for group in (*STAGES, "normaliser"):
                if groups.get(group):
                    chosen = groups[group]["_target_"].rsplit(".", 1)[-1]
                    raise UsageError(
                        f"{group} {chosen} has no place in {component.__name__}, a mixer without stages: "
                        f"choose {group}=none or mixer=eos"
                    )
            return self.make("mixer", node, name, **sizes)
        for group in (*STAGES, "normaliser"):
            if not groups.get(group):
                raise UsageError(f"{group}=none leaves mixer=eos without that stage: choose an option of {group}/")
        sizes |= {"num_heads": node["num_heads"], "state_dim": node["state_dim"]}
        if node["value_dim"] is None:
            node["value_dim"] = value_dim(sizes["d_model"], node["num_heads"])
        sizes["value_dim"] = node["value_dim"]
        source = self.make("source", groups["source"], f"{name}.source", input_dim=sizes["d_model"], **sizes)
        stages = {
            group: self.make(group, groups[group], f"{name}.{group}", input_dim=source.widths[group], **sizes)
            for group in STAGES
            if group != "source"
        }
        source.serve(readers(node, stages))
        read = sizes | {"value_dim": stages["shrink"].output_dim or sizes["value_dim"]}
        normaliser = self.make("normaliser", groups["normaliser"], f"{name}.normaliser", **read)
        parts = {part: self.part(part, node.pop(part)) for part in PARTS}
        second = partial(self.make, "shrink", groups["shrink"], f"{name}.reverse_shrink")
        make_shrink = partial(second, input_dim=source.widths["shrink"], **sizes)
        parts["reverse"] = partial(parts["reverse"], make_shrink=make_shrink)
        together = Stages(source=source, normaliser=normaliser, **stages)
        return self.make("mixer", node, name, stages=together, d_model=sizes["d_model"], **parts)

    def part(self, group: str, node: dict[str, Any]) -> Callable[..., Any]:
        """A constructor of a part of a mixer from its widths; it draws its initial values with the mixer."""
        settings = {key: value for key, value in node.items() if key != "_target_"}
        return partial(resolve(f"mixer.{group}", node, PARTS[group], self.allowed), **settings)

    def block(self, layer: int) -> Block:
        """Layer `layer` of the pattern: its mixer, its channel mixer and their norms."""
        pattern = self.model["pattern"]
        which = pattern[layer % len(pattern)]
        named = {"main": self.config, **(self.config.get("mixers") or {})}
        if which not in named:
            raise UsageError(
                f"model.pattern names {which!r}, which is no mixer: choose from {', '.join(named)}, "
                f"or define mixers.{which}"
            )
        name = f"layers.{layer}"
        channel = None
        if self.config.get("channel"):
            sizes = {"d_model": self.model["d_model"], "layer": layer, "num_layers": self.model["num_layers"]}
            channel = self.make("channel", self.config["channel"], f"{name}.channel", **sizes)
        block = self.config["block"]
        return Block(
            mixer=self.mixer(named[which], layer, f"{name}.mixer"),
            channel=channel,
            d_model=self.model["d_model"],
            norm=block["norm"],
            epsilon=block["epsilon"],
            dropout=self.model["dropout"],
            placement=block["placement"],
            tied_dropout=block["tied_dropout"],
            inner_dropout=block.get("inner_dropout", False),
            momentum=block.get("momentum"),
        )

    def backbone(self, most: int | None = None) -> Backbone:
        """All layers, or the first `most` of them, and the final norm."""
        block = self.config["block"]
        blocks = [self.block(layer) for layer in range(self.model["num_layers"])[:most]]
        # what leaves a block that normalises after itself needs no norm
        norm = None if block["placement"] == "post" else block["norm"]
        return Backbone(blocks, self.model["d_model"], norm, block["epsilon"], block.get("momentum"))

    def release(self) -> Release | None:
        """The starts of a release where `model.init` asks for them; None where torch.nn's stay."""
        if self.model.get("init", "torch") == "torch":
            return None
        node = dict(self.config.get("release") or {})
        component = resolve("release", node, Release, self.allowed)
        release: Release = component(**{key: value for key, value in node.items() if key != "_target_"})
        return release

    def started(self, model: Model) -> Model:
        """The model with its initial weights."""
        release = self.release()
        if release is not None:
            release.apply(model, self.config["seed"])
        return model


def readers(mixer: Mapping[str, Any], stages: Mapping[str, Stage]) -> list[str]:
    """The readers of a source whose values enter the outputs.

    Args:
        mixer: the `mixer` node.
        stages: by their groups.
    """
    used = {group: follows(stage) for group, stage in stages.items()}
    used |= {"gate": mixer["output"]["gate"] != "none", "skip": mixer["skip"]["of"] in ("source", "dense")}
    return [reader for reader, is_used in used.items() if is_used]


def follows(stage: Stage) -> bool:
    """Whether the value of a stage follows what it sees: by its declaration, if it sees anything."""
    if "input_dim" not in inspect.signature(type(stage)).parameters:
        return False
    if not isinstance(stage, Oscillation):
        return "L" in stage.varies
    axes = (stage.decay, stage.phase, stage.gain)
    return any("L" in (part or "") for part in axes) or stage.log_scale_start is not None or stage.kind == "low_rank"


def value_dim(d_model: int, num_heads: int) -> int:
    """P where the heads share the model's width."""
    if d_model % num_heads:
        raise UsageError(
            f"mixer.num_heads={num_heads} must divide model.d_model={d_model}: choose a divisor, or set mixer.value_dim"
        )
    return d_model // num_heads


def build_model(config: dict[str, Any], vocab_size: int) -> LanguageModel:
    """The language model that a configuration describes, with initial values drawn from config["seed"].

    Args:
        config: the resolved configuration as plain dictionaries.
        vocab_size: V, from the data.
    Raises:
        UsageError: a component is unknown, misses its group's base, or stages do not go together.
    """
    model, builder = config["model"], Builder(config)
    backbone = builder.backbone()
    with seeded(config["seed"], "embedding"):
        language_model = LanguageModel(
            backbone,
            vocab_size,
            model["embedding_std"],
            model["embedding_dropout"],
            model["tie_embeddings"],
            model.get("logit_cap"),
        )
    return builder.started(language_model)


def build_classifier(
    config: dict[str, Any], num_classes: int, vocab_size: int | None, num_features: int | None, targets: Targets
) -> SequenceClassifier:
    """The classifier that a configuration describes, with initial values drawn from config["seed"].

    Args:
        config: the resolved configuration as plain dictionaries.
        num_classes, vocab_size, num_features: as in `SequenceClassifier`, from the data.
        targets: "sequence", or "pair" where two sequences have a label together.
    Raises:
        UsageError: as in `build_model`.
    """
    model, builder = config["model"], Builder(config)
    backbone = builder.backbone()
    kind = PairClassifier if targets == "pair" else SequenceClassifier
    with seeded(config["seed"], "embedding"):
        classifier = kind(
            backbone,
            num_classes,
            vocab_size,
            num_features,
            model["embedding_std"],
            model["embedding_dropout"],
            model.get("logit_cap"),
        )
    return builder.started(classifier)


def build_for(config: dict[str, Any], vocab_size: int, facts: Mapping[str, Any]) -> LanguageModel | SequenceClassifier:
    """The model for some data: a classifier where they have labels, else a language model.

    Args:
        config: the resolved configuration as plain dictionaries.
        vocab_size: V, 0 where the data are vectors.
        facts: what the data say of themselves; labelled data have `num_classes`, `num_features` and `targets`.
    """
    if "num_classes" not in facts:
        return build_model(config, vocab_size)
    return build_classifier(config, facts["num_classes"], vocab_size or None, facts["num_features"], facts["targets"])


def check_model(config: dict[str, Any]) -> dict[str, Mixer]:
    """Build every kind of layer once, without memory, so that illegal pairs of stages are refused before any work.

    Returns:
        The mixers by their names in `model.pattern`.
    """
    builder, pattern = Builder(config), config["model"]["pattern"][: config["model"]["num_layers"]]
    builder.release()
    with torch.device("meta"):
        return {name: builder.block(layer).mixer for layer, name in enumerate(pattern)}


def count_parameters(config: dict[str, Any]) -> int:
    """Numbers that the layers of a model learn, from one layer of every kind, built without memory.

    What several layers share counts once, as their first layer makes it.
    """
    builder, layers = Builder(config), config["model"]["num_layers"]
    pattern = config["model"]["pattern"][:layers]
    with torch.device("meta"):
        blocks = [builder.block(layer) for layer in range(len(pattern))]
    shared = {id(weight): weight.numel() for module in builder.common.values() for weight in module.parameters()}
    total = sum(shared.values())
    for first, block in enumerate(blocks):
        own = sum(weight.numel() for weight in block.parameters() if id(weight) not in shared)
        total += own * len(range(first, layers, len(pattern)))
    return total


def rehearse(config: dict[str, Any]) -> None:
    """Let the first layers read two tokens, there and back: some values show only then what a stage refuses.

    One layer of every kind and one more, for those that take something from an earlier one; on the CPU, as algorithms
    look at values. Where the CPU does not run the algorithm that was asked for, another one takes its place.

    Raises:
        UsageError: a stage refuses what another one gives.
    """
    others = {which: for_cpu(groups) for which, groups in (config.get("mixers") or {}).items()}
    backbone = Builder({**for_cpu(config), "mixers": others}).backbone(len(config["model"]["pattern"]) + 1)
    irregular = any(getattr(module, "irregular", False) for module in backbone.modules())
    context = Context(dt=torch.ones(2, 2)) if irregular else None
    with torch.random.fork_rng(devices=[]):
        outputs, _ = backbone(torch.randn(2, 2, config["model"]["d_model"]), context=context)
        outputs.square().mean().backward()


def for_cpu(groups: Mapping[str, Any]) -> dict[str, Any]:
    """The groups of a mixer, whose algorithm is left to `auto` where it runs on other devices only."""
    request = groups["mixer"].get("algorithm")
    if runs_on(request, "cpu"):
        return dict(groups)
    return {**groups, "mixer": {**groups["mixer"], "algorithm": "auto"}}
