"""The directory of the configuration files: beside the package in a checkout, inside it in an installed wheel."""

import re
from functools import lru_cache
from pathlib import Path

from lcsm.errors import UsageError

PACKAGE = Path(__file__).resolve().parent.parent


def conf_directory() -> Path:
    """The directory that holds train.yaml.

    Raises:
        UsageError: neither a wheel's lcsm/conf nor a checkout's conf is there.
    """
    candidates = (PACKAGE / "conf", PACKAGE.parent / "conf")
    for candidate in candidates:
        if (candidate / "train.yaml").is_file():
            return candidate
    raise UsageError(f"no train.yaml in {candidates[0]} or {candidates[1]}: install lcsm again")


def options(directory: Path) -> dict[str, dict[str, str]]:
    """The groups of a configuration directory.

    Returns:
        option -> description for each group that has options, "lra/imdb/s5" where they lie in folders; the description
        is the first comment of the YAML file that is not a Hydra directive, "" where there is none.
    """
    groups: dict[str, dict[str, str]] = {}
    for path in sorted(directory.glob("*/**/*.yaml")):
        group, _, option = path.relative_to(directory).with_suffix("").as_posix().partition("/")
        groups.setdefault(group, {})[option] = first_comment(path)
    return groups


def first_comment(path: Path) -> str:
    """The text of the first comment line of a YAML file, "" if its first lines hold none."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[:5]:
        text = line.strip()
        if text.startswith("#") and not text.startswith("# @package"):
            return text.lstrip("# ")
    return ""


@lru_cache
def classes() -> dict[str, str]:
    """The module of lcsm that defines each class, by its name; read as text, so that nothing is imported."""
    found: dict[str, str] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts))
        for name in re.findall(r"^class (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            found.setdefault(name, module)
    return found
