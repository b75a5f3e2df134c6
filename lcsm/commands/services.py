"""Hydra's services beside training: printing the configuration or its own help, completing lines of a shell."""

from __future__ import annotations

import argparse
import os
import re

from hydra.core.global_hydra import GlobalHydra

from lcsm.config.compose import Composer
from lcsm.config.foreign import OwnWordsLoader, shipped_files
from lcsm.config.hydra_private import Hydra, create_config_search_path, get_args_parser
from lcsm.config.locate import conf_directory
from lcsm.config.messages import COMPOSITION_ERRORS, explain
from lcsm.errors import UsageError

# The name of the program and of the command that a line begins with, where it has one.
COMMAND = re.compile(r"(\s*\S*\blcsm)\s+(?:train|show)(?=\s)")
SHELLS = ("bash", "fish", "zsh")


def serve(flags: argparse.Namespace) -> None:
    """Do what the flags ask for; nothing is trained.

    Raises:
        UsageError: anything that a user wrote wrongly.
    """
    if flags.shell_completion:
        complete(flags)
        return
    if flags.hydra_help:
        Hydra("train", shipped_files()).hydra_help(None, get_args_parser(), flags)
        return
    with Composer(flags) as composer:
        hydra, words = composer.hydra, composer.words
        # faults in our words before Hydra says them in its own
        config = composer.compose(words)
        if flags.resolve:
            composer.resolve(config, words)
        try:
            if flags.cfg:
                hydra.show_cfg(composer.name, words, flags.cfg, flags.package, flags.resolve)
            else:
                hydra.show_info(flags.info, composer.name, words)
        except COMPOSITION_ERRORS as error:
            raise UsageError(explain(error, words, lambda: composer.names(words))) from error


def complete(flags: argparse.Namespace) -> None:
    """Install the completion of a shell, remove it, or say what may follow the line in COMP_LINE."""
    action, _, shell = " ".join(flags.overrides).partition("=")
    if action not in ("install", "uninstall", "query") or shell not in SHELLS:
        raise UsageError(
            f"--shell-completion {' '.join(flags.overrides)} needs install=, uninstall= or query= with one of "
            f'{", ".join(SHELLS)}\ne.g. eval "$(lcsm train -sc install=bash)"'
        )
    line = COMMAND.sub(r"\1", os.environ.get("COMP_LINE", ""), count=1)
    if action == "query" and not line:
        raise UsageError("query= answers a shell, which gives its line in COMP_LINE: use install= instead")
    os.environ["COMP_LINE"] = line
    loader = OwnWordsLoader(create_config_search_path(str(conf_directory())), [w for w in line.split() if "=" in w])
    hydra = Hydra("train", loader)
    GlobalHydra.instance().initialize(hydra)
    try:
        hydra.shell_completion("train", flags.overrides)
    except (*COMPOSITION_ERRORS, UsageError):
        # a line that is not complete yet need not be readable, and then nothing is known of what follows
        return
    finally:
        GlobalHydra.instance().clear()
