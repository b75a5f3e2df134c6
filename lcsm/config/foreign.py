"""Limits of configuration files on Hydra and code: files may come from anywhere, only words are one's own.

A file is whatever is not the command line: options of a --config-dir, an experiment, local/default.yaml, a saved run.
Hydra would import and call what its own node names, and write where it says.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from lcsm.config.hydra_private import Loader, create_config_search_path
from lcsm.config.locate import conf_directory
from lcsm.errors import UsageError

# A place to look for options: a folder. Others, such as pkg://, import a package to look into it.
FOLDER = re.compile(r"file://.*|(?!\w+://).*")
# Hydra's record of what it was asked and where it runs, made anew by every composition.
RECORD = re.compile(r"(runtime|overrides)(\..*)?|searchpath|job\.(override_dirname|config_name)")


def anything(value: Any) -> bool:
    """Of values that are looked at elsewhere: places, and the classes of plugins."""
    return True


def is_number(value: Any) -> bool:
    """Whether a value is a number, true, false or null, which name nothing; nor does an empty mapping."""
    return value in (None, {}) or isinstance(value, (bool, int, float))


def is_word(value: Any) -> bool:
    """Whether a value is a number or a plain word, as a queue has for its name, and no interpolation."""
    return is_number(value) or (isinstance(value, str) and re.fullmatch(r"[\w.:+-]*", value) is not None)


def is_text(value: Any) -> bool:
    """Whether a value is a number or any text but an interpolation, which may stand for anything."""
    return is_number(value) or (isinstance(value, str) and "${" not in value)


# What files may set below `hydra`, and to what.
FROM_FILES: dict[str, Callable[[Any], bool]] = {
    r"mode|verbose|(run|sweep)\.dir|(launcher|sweeper)\._target_": anything,
    # Hydra makes an object of every _target_ in a sweeper; the jobs of a sweep are composed and looked at as this is
    r"sweeper\.params\.(?!.*(\bhydra\b|allow_targets|_target_)).*": is_text,
    r"output_subdir|launcher\.(partition|account|qos|constraint)|sweeper\.direction": is_word,
    r"(launcher|sweeper)\.\w+": is_number,
}
# Values of one file, aliases written out; the largest shipped file has less than a hundred.
MOST_VALUES = 100_000
SETTABLE = "mode, run.dir, sweep.dir, output_subdir, verbose, sweeper.params, numbers of launcher and sweeper"


def require_bounded(path: Path) -> None:
    """Refuse a file whose aliases stand for more values than a configuration can have; OmegaConf makes each anew.

    Raises:
        UsageError: names the file.
    """
    text = path.read_text(encoding="utf-8")
    if "*" not in text or "&" not in text:
        return
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            children = [child for pair in node.value for child in (pair if isinstance(pair, tuple) else [pair])]
            sizes[id(node)] = 1 + (0 if isinstance(node, yaml.ScalarNode) else sum(map(size, children)))
        return sizes[id(node)]

    root = yaml.compose(text, yaml.SafeLoader)
    if root is not None and size(root) > MOST_VALUES:
        raise UsageError(
            f"{path}: its aliases stand for {size(root):,} values, more than {MOST_VALUES:,}:\nwrite them out instead"
        )


class OwnWordsLoader(Loader):
    """Composes as Hydra does, and refuses what only the words of the command line may say.

    Every composition is checked, Hydra's own before a job too, and before anything that it names is imported.

    Args:
        search_path: where options are looked up.
        words: the command line.
    Raises:
        UsageError: by any method, with the key and the words to write.
    """

    def __init__(self, search_path: ConfigSearchPath, words: Sequence[str]) -> None:
        super().__init__(search_path, require_bounded)
        self.own: list[Override] = []
        self.accept(words)

    def accept(self, words: Sequence[str]) -> None:
        """Take words as one's own; none where Hydra cannot read them, which it says by itself."""
        with suppress(HydraException):
            self.own = [*self.own, *OverridesParser.create(config_loader=self).parse_overrides(list(words))]

    def before_search(self, name: str | None, config: Any, words: Sequence[Override]) -> None:
        if isinstance(config, DictConfig) and OmegaConf.select(config, "hydra.searchpath", throw_on_missing=False):
            raise UsageError(
                f"hydra.searchpath stands in {name}.yaml, which may come from anywhere:\n"
                "take it out and name the folder yourself, --config-dir=..."
            )
        for word in words:
            places = word.value() if word.key_or_group == "hydra.searchpath" else []
            for place in places if isinstance(places, list) else [places]:
                if not FOLDER.fullmatch(str(place)):
                    raise UsageError(
                        f"hydra.searchpath={place} would import a package: name a folder, --config-dir=..."
                    )

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        config = super().load_configuration(config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
        # Hydra adds every word once to what a file has put there
        if len(config.hydra.overrides.hydra) + len(config.hydra.overrides.task) != len(overrides):
            raise UsageError(refusal("overrides", "..."))
        self.check(config)
        return config

    def check(self, config: DictConfig) -> None:
        """Whether a composed configuration names no code but with the leave of the command line."""
        self.check_hydra(config.hydra)
        allowed = OmegaConf.select(config, "allow_targets", throw_on_missing=False)
        if allowed and not any(word.key_or_group == "allow_targets" for word in self.own):
            names = map(str, allowed if OmegaConf.is_list(allowed) else [allowed])
            listed = ",".join(" ".join(name.split()) for name in names)
            raise UsageError(
                f"allow_targets=[{listed}] stands in a file, which may come from anywhere, and would run its code:\n"
                f"write it yourself if you trust it: 'allow_targets=[{listed}]'"
            )

    def check_hydra(self, node: DictConfig) -> None:
        """Whether Hydra's own node is the shipped one but for plain settings and the words of the command line."""
        options = tuple(self.installed(kind, node) for kind in ("launcher", "sweeper"))
        # a job of a sweep is composed of the choices first, and gets values then
        known = [reference(options, words) for words in ((), tuple(filter(None, map(as_addition, self.own))))]
        for key, value in flat(OmegaConf.to_container(node, resolve=False)).items():
            if RECORD.fullmatch(key) or any(key in shipped and shipped[key] == value for shipped in known):
                continue
            rule = next((rule for pattern, rule in FROM_FILES.items() if re.fullmatch(pattern, key)), None)
            if rule is None or not rule(value):
                raise UsageError(refusal(key, value))

    def installed(self, kind: str, node: DictConfig) -> str:
        """The word that chooses the launcher or sweeper of a configuration."""
        target = OmegaConf.select(node, f"{kind}._target_", throw_on_missing=False)
        known = targets(kind)
        if target not in known:
            raise UsageError(
                f"hydra.{kind}._target_={target!r} is not installed: choose hydra/{kind}={'|'.join(known.values())}"
            )
        return f"hydra/{kind}={known[target]}"


def refusal(key: str, value: Any) -> str:
    """The message for a setting of Hydra that a file may not have."""
    key, value = " ".join(key.split()), textwrap.shorten(repr(value), 80)
    if key.split(".")[0] == "callbacks":
        return f"hydra.{key}={value} would run code of its own: Hydra's callbacks are lcsm's alone, leave it out"
    return (
        f"hydra.{key}={value} stands in a file, which may come from anywhere, and could run code or write elsewhere:\n"
        f"write it on the command line; of hydra files may set {SETTABLE}"
    )


def as_addition(word: Override) -> str:
    """A word for Hydra as it can be put on top of the shipped files; "" for others and for what the files decide."""
    key = word.key_or_group
    if not word.is_hydra_override() or word.is_delete() or key.startswith(("hydra.callbacks", "hydra.searchpath")):
        return ""
    if key.startswith("hydra/"):
        kept = key not in ("hydra/launcher", "hydra/sweeper") and word.value() in shipped_files().get_group_options(key)
        return str(word.input_line) if kept else ""
    return f"++{str(word.input_line).lstrip('+')}"


@lru_cache
def shipped_files() -> Loader:
    """A loader of the files of lcsm, Hydra and its installed plugins alone."""
    return Loader(create_config_search_path(str(conf_directory())), require_bounded)


@lru_cache
def targets(kind: str) -> dict[str, str]:
    """Class -> option of the launchers or sweepers that are installed."""
    loader = shipped_files()
    options = {name: loader.option(f"hydra/{kind}/{name}") for name in loader.get_group_options(f"hydra/{kind}")}
    return {str(OmegaConf.select(node, "_target_")): name for name, node in options.items() if node is not None}


@lru_cache
def reference(options: tuple[str, ...], words: tuple[str, ...]) -> dict[str, Any]:
    """Hydra's own node as the shipped files and some words make it, by dotted key."""
    words = ("+hydra=default", *options, *words)
    config = shipped_files().load_configuration(None, list(words), RunMode.RUN, validate_sweep_overrides=False)
    return flat(OmegaConf.to_container(config.hydra, resolve=False))


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested mappings by their dotted keys; lists and empty mappings are leaves."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    found = (flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in node.items())
    return {key: value for part in found for key, value in part.items()}
