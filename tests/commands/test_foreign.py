"""Configurations from anywhere: no code of theirs runs, nothing is written outside, the command line stays free."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.config_store import ConfigStore

from lcsm.config import foreign
from lcsm.config.compose import make_plan
from tests.commands.helpers import RECALL, TINY, said
from tests.config.helpers import compose, fault

SHORT = [*TINY, *RECALL, "trainer.max_steps=1", "trainer.val_check_interval=1"]
CALLBACK = {"callbacks": {"x": {"_target_": "MODULE.Evil"}}}
STAGE = {"_target_": "MODULE.Evil"}


def handler(how: str, log: str = "job_logging") -> dict[str, Any]:
    """Hydra's own node with a log handler of the module."""
    return {log: {"handlers": {"x": {how: "MODULE.Evil"}}, "root": {"handlers": ["x"]}}}


class Stranger:
    """A folder of configurations, with a module that leaves a file where it is imported.

    In all that is written or said, MODULE stands for its name, which is another one in every test.
    """

    def __init__(self, folder: Path) -> None:
        self.conf, self.module, self.trace = folder / "conf", f"stranger_{folder.name}", folder / "imported"
        package = folder / "modules" / self.module
        package.mkdir(parents=True)
        text = f"open({str(self.trace)!r}, 'w').close()\nclass Evil:\n    def __init__(self, *_, **__): pass\n"
        (package / "__init__.py").write_text(text)

    def offer(self, name: str, node: dict[str, Any], header: str = "") -> str:
        """The flag that offers a file."""
        path = self.conf / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(header + yaml.safe_dump(node).replace("MODULE", self.module))
        return f"--config-dir={self.conf}"

    def experiment(self, **node: Any) -> list[str]:
        """The words that choose an experiment."""
        return [self.offer("experiment/evil.yaml", node, "# @package _global_\n"), "experiment=evil"]

    def local(self, **node: Any) -> list[str]:
        """The words with which a file of everyone's own is found."""
        return [self.offer("local/default.yaml", node, "# @package _global_\n")]

    def saved(self, **node: Any) -> list[str]:
        """The words that run a saved configuration again, with something added."""
        self.offer("config.yaml", make_plan(SHORT).jobs[0].config | node)
        return [f"--config-path={self.conf}", "--config-name=config"]


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stranger:
    monkeypatch.syspath_prepend(tmp_path / "modules")
    # what a test writes lands in its own folder, two below the one where nothing may land
    (tmp_path / "work/inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work/inner")
    return Stranger(tmp_path)


WAYS: dict[str, tuple[Callable[[Stranger], list[str]], str]] = {
    "callback of an experiment": (lambda s: s.experiment(hydra=CALLBACK), "hydra.callbacks.x"),
    "factory of a log handler": (lambda s: s.experiment(hydra=handler("()")), "hydra.job_logging.handlers.x.()"),
    "class of a log handler": (lambda s: s.experiment(hydra=handler("class")), "hydra.job_logging.handlers.x.class"),
    "callback of a saved run": (lambda s: s.saved(hydra=CALLBACK), "hydra.callbacks.x"),
    "package to search": (lambda s: ["hydra.searchpath=[pkg://MODULE]"], "hydra.searchpath"),
    "callback in words": (lambda s: ["+hydra.callbacks.x={_target_: MODULE.Evil}"], "hydra.callbacks.x"),
    "experiment that allows itself": (
        lambda s: s.experiment(allow_targets=["MODULE.Evil"], oscillation=STAGE),
        "'allow_targets=[MODULE.Evil]'",
    ),
    "local file that allows itself": (
        lambda s: s.local(allow_targets=["MODULE.Evil"], oscillation=STAGE),
        "'allow_targets=[MODULE.Evil]'",
    ),
    "saved run that allows itself": (
        lambda s: s.saved(allow_targets=["MODULE.Evil"], oscillation=STAGE),
        "'allow_targets=[MODULE.Evil]'",
    ),
    "package to search of a saved run": (
        lambda s: s.saved(hydra={"searchpath": ["pkg://MODULE"]}),
        "hydra.searchpath stands in config.yaml",
    ),
    "file of lcsm's name beside a saved run": (
        lambda s: (s.offer("hydra/default.yaml", CALLBACK), s.saved())[1],
        "hydra.",
    ),
    "handler of a sweep's own log": (
        lambda s: ["-m", "seed=1,2", *s.experiment(hydra=handler("()", "hydra_logging"))],
        "hydra.hydra_logging.handlers.x.()",
    ),
    "option that is put among the callbacks": (
        lambda s: [s.offer("evil/x.yaml", {"x": STAGE}), "+evil@hydra.callbacks=x"],
        "hydra.callbacks.x",
    ),
    "launcher of a sweep": (
        lambda s: ["-m", "seed=1,2", *s.experiment(hydra={"launcher": STAGE})],
        "hydra.launcher._target_='MODULE.Evil'",
    ),
    "words that a file puts among one's own": (
        lambda s: s.experiment(hydra={"mode": "MULTIRUN", "overrides": {"task": ["allow_targets=[MODULE.Evil]"]}}),
        "hydra.overrides",
    ),
    "sweep of permissions": (
        lambda s: s.experiment(hydra={"mode": "MULTIRUN", "sweeper": {"params": {"allow_targets": "[MODULE.Evil]"}}}),
        "hydra.sweeper.params.allow_targets",
    ),
    "sweep of Hydra's settings": (
        lambda s: s.experiment(hydra={"mode": "MULTIRUN", "sweeper": {"params": {"+hydra.job.env_set.A": "1,2"}}}),
        "hydra.sweeper.params.+hydra.job.env_set.A",
    ),
    "class in the values of a sweep": (
        lambda s: s.experiment(hydra={"mode": "MULTIRUN", "sweeper": {"params": {"x": STAGE}}}),
        "hydra.sweeper.params.x._target_",
    ),
    "sweep of permissions under another key": (
        lambda s: s.experiment(
            hydra={"mode": "MULTIRUN", "sweeper": {"params": "${mixers}"}}, mixers={"allow_targets": "[MODULE.Evil]"}
        ),
        "hydra.sweeper.params",
    ),
    "environment of a job": (
        lambda s: s.experiment(hydra={"job": {"env_set": {"PYTHONSTARTUP": "MODULE.py"}}}),
        "hydra.job.env_set.PYTHONSTARTUP",
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_code_that_a_configuration_names_is_refused_before_it_is_imported(
    name: str, stranger: Stranger, capsys: pytest.CaptureFixture[str]
):
    way, named = WAYS[name]
    words = [word.replace("MODULE", stranger.module) for word in way(stranger)]
    status, _, message = said(capsys, "train", *SHORT, *words)
    assert not stranger.trace.exists()
    assert status == 2 and named.replace("MODULE", stranger.module) in message and len(message.splitlines()) <= 3


@pytest.mark.parametrize("flags", [["--cfg=job"], ["--info=defaults"], ["--info=all"]])
def test_a_look_at_a_configuration_imports_nothing_of_it(
    flags: list[str], stranger: Stranger, capsys: pytest.CaptureFixture[str]
):
    words = stranger.saved(hydra={"searchpath": [f"pkg://{stranger.module}"]})
    assert said(capsys, "train", *words, *flags)[0] == 2
    assert not stranger.trace.exists()


OUTSIDE: dict[str, Callable[[Stranger], list[str]]] = {
    "hydra.run.dir": lambda s: s.experiment(hydra={"run": {"dir": "../../outside"}}),
    "hydra.sweep.dir": lambda s: ["-m", *s.experiment(hydra={"sweep": {"dir": "${paths.root}/../../../outside"}})],
    "hydra.sweep.subdir": lambda s: ["-m", *s.experiment(hydra={"sweep": {"subdir": "../../../../outside"}})],
    "hydra.output_subdir": lambda s: s.experiment(hydra={"output_subdir": "../../../../../outside"}),
    "hydra.job.name": lambda s: s.experiment(hydra={"job": {"name": "../../../../../outside"}}),
    "name": lambda s: s.experiment(name="../../../outside"),
    # another one when Hydra composes again
    "hydra.output_subdir='${mixers": lambda s: s.experiment(
        hydra={"output_subdir": "${mixers.${hydra.mode}}"}, mixers={"RUN": "../../../../../outside"}
    ),
}


@pytest.mark.parametrize("key", OUTSIDE)
def test_a_file_writes_nowhere_but_below_the_root(
    key: str, stranger: Stranger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = OUTSIDE[key](stranger)
    before = sorted(tmp_path.iterdir())
    status, _, message = said(capsys, "train", *SHORT, *words)
    assert sorted(tmp_path.iterdir()) == before
    assert status == 2 and key in message and len(message.splitlines()) <= 3


@pytest.mark.parametrize(
    "word",
    [
        *("name=", "name=..", "name=.", "name=../x", "name=a/b", "name='a\tb'", "name='\\${seed}'"),
        *(f"name={'a' * 300}", f"name='{'ü' * 128}'"),
        *("hydra.output_subdir=../..", "hydra.output_subdir=", "paths.root=", "hydra.run.dir=", "hydra.sweep.dir="),
    ],
)
def test_a_name_is_one_folder_and_a_folder_is_not_empty(word: str):
    key = word.partition("=")[0]
    message = fault(word)
    assert message.startswith(f"{key}=") and len(message.splitlines()) <= 3 and len(message) < 300


def test_an_empty_root_of_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LCSM_RUNS", "")
    assert "paths.root" in fault()


def test_a_file_may_say_where_below_the_root_and_what_is_swept(stranger: Stranger):
    sweep = {"mode": "MULTIRUN", "sweeper": {"params": {"seed": "1,2"}}, "sweep": {"dir": "${paths.root}/mine"}}
    plan = make_plan(stranger.experiment(hydra=sweep | {"verbose": True, "output_subdir": "hydra"}))
    assert [job.config["seed"] for job in plan.jobs] == [1, 2]
    assert plan.directory == Path("runs/mine")


def test_the_command_line_may_say_anything_but_code():
    plan = make_plan(["hydra.run.dir=/elsewhere", "hydra.job_logging.root.level=DEBUG", "+hydra.job.env_set.A=b"])
    assert plan.directory == Path("/elsewhere")
    assert make_plan(["-m", "seed=1,2", "hydra.sweep.dir=/elsewhere"]).directory == Path("/elsewhere")


def test_words_allow_what_a_file_names(stranger: Stranger):
    words = stranger.experiment(allow_targets=["other.Thing"], oscillation={"_target_": "mine.Oscillation"})
    assert compose(*words, "allow_targets=[mine.Oscillation]")["allow_targets"] == ["mine.Oscillation"]


@pytest.fixture
def queue() -> Iterator[None]:
    """A launcher that is installed."""
    node = {"_target_": "hydra_plugins.queue.Queue", "n_jobs": 1, "setup": None, "partition": None}
    store = ConfigStore.instance()
    store.store(group="hydra/launcher", name="queue", node=node)
    caches = (foreign.shipped_files, foreign.targets, foreign.reference)
    for cache in caches:
        cache.cache_clear()
    yield
    del store.repo["hydra"]["launcher"]["queue.yaml"]
    for cache in caches:
        cache.cache_clear()


@pytest.mark.usefixtures("queue")
def test_an_installed_launcher_takes_numbers_of_files_and_commands_of_words(stranger: Stranger):
    chosen = {"defaults": [{"override /hydra/launcher": "queue"}], "hydra": {"launcher": {"n_jobs": 4}}}
    words = ["-m", "seed=1,2", *stranger.experiment(**chosen)]
    assert len(make_plan([*words, "hydra.launcher.partition=gpu", "hydra.launcher.setup=[module load x]"]).jobs) == 2
    chosen["hydra"]["launcher"] |= {"partition": "gpu"}
    assert len(make_plan(["-m", "seed=1,2", *stranger.experiment(**chosen)]).jobs) == 2
    chosen["hydra"]["launcher"] |= {"setup": ["module load x"]}
    assert "hydra.launcher.setup" in fault("-m", "seed=1,2", *stranger.experiment(**chosen))


@pytest.mark.usefixtures("queue")
def test_an_option_of_ones_own_for_an_installed_launcher_may_be_chosen(stranger: Stranger):
    node = {"defaults": ["queue", "_self_"], "n_jobs": 8}
    words = ["-m", "seed=1,2", stranger.offer("hydra/launcher/mine.yaml", node), "hydra/launcher=mine"]
    assert len(make_plan([*words, "hydra.launcher.n_jobs=2"]).jobs) == 2


@pytest.mark.parametrize(
    "word", ["hydra.launcher._target_=x", "hydra.sweeper._target_=os.system", "hydra.launcher=null"]
)
def test_a_launcher_that_is_not_installed_is_refused(word: str):
    message = fault("-m", "seed=1,2", word)
    assert "is not installed" in message and "basic" in message and len(message.splitlines()) == 1
