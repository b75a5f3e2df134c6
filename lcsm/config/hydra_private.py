"""All that lcsm uses of Hydra's private modules, which may change with any version; nothing else imports them.

The public `hydra.compose` and `hydra.initialize_config_dir` do not suffice: they refuse `seed=1,2`, so that no sweep
can be planned with them, and make their own loader, which neither looks at what files name before it is imported nor
adds a folder that the command line names. `hydra.main` alone gives the flags, the help, the completion of shells and
the run of a job, but it reads the words of the process by itself and ends it on a mistake, in words of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

__all__ = ["Hydra", "Loader", "create_config_search_path", "get_args_parser"]


class Repository(ConfigRepository):
    """The files of a search path, each looked at before it is read.

    Args:
        search_path: where options are looked up.
        look: called with the path of each file; a plain function, as Hydra copies the repository.
    """

    def __init__(self, search_path: ConfigSearchPath, look: Callable[[Path], None]) -> None:
        super().__init__(search_path)
        self.look = look

    def load_config(self, config_path: str) -> Any:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        # Hydra imports the class of this scheme a second time, as a plugin
        if source is not None and source.scheme() == FileConfigSource.scheme():
            self.look(Path(source.path, source._normalize_file_name(config_path)))
        return super().load_config(config_path)


class Loader(ConfigLoaderImpl):
    """Composes configurations from the folders of a search path.

    Args:
        search_path: where options are looked up.
        look: called with the path of each file before it is read.
    """

    def __init__(self, search_path: ConfigSearchPath, look: Callable[[Path], None]) -> None:
        super().__init__(search_path)
        self.repository = Repository(search_path, look)

    def before_search(self, name: str | None, config: Any, words: Sequence[Override]) -> None:
        """Called before the places that a configuration and words name are added to the search path.

        Args:
            name: of the configuration that is composed; None for none.
            config: what stands in its file.
            words: overrides.
        """

    def set_values(self, config: DictConfig, words: Sequence[Override]) -> None:
        """Set values of a composed configuration in place, as overrides do while it is composed."""
        self._apply_overrides_to_config(list(words), config)

    def option(self, path: str) -> Any:
        """The content of the file of an option such as "hydra/launcher/basic", None where there is none."""
        loaded = self.repository.load_config(path)
        return None if loaded is None else loaded.config

    def _process_config_searchpath(self, config_name: str | None, parsed_overrides: list[Override], repo: Any) -> None:
        loaded = None if config_name is None else repo.load_config(config_path=config_name)
        self.before_search(config_name, None if loaded is None else loaded.config, parsed_overrides)
        super()._process_config_searchpath(config_name, parsed_overrides, repo)
