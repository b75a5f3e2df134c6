"""Words of `lcsm train` and of no command: keys, types, ranges, groups, flags, places."""

from __future__ import annotations

from tests.faults.cases import EITHER, INVALID, LARGE, TEXT, TRAIN, VALID, Case

# each word alone makes a tiny run impossible or meaningless
WRONG = (
    # keys and groups
    "unknown=1", "+unknown=1", "~seed", "model.d_modle=8", "oscillaton=diag", "model=dig", "data=nothing",
    "model=null", "callbacks=3", "shrink=none", "mixers.second=1", "model.pattern=[second]", "model.pattern=[]",
    "callbacks.figures=3", "+mixer@mixers.second.mixer=attention", "+optim.groups.mine.match=[*nothing*]",
    "choices=3",
    # types and ranges
    "model.d_model=abc", "model.d_model=0", "model.d_model=-16", "model.num_layers=0", "model.num_layers=1.5",
    "model.dropout=1.5", "optim.lr=nan", "optim.lr=inf", "optim.lr=1e400", "optim.lr=-1",
    "optim.betas=[0.9,0.95,0.9]", "optim.betas=[0.9,1.0]", "seed=-1", "seed=4294967296", "seed=null",
    "trainer.max_steps=0", "trainer.max_steps=-1", "data.batch_size=0", "data.vocab_size=1", "data.num_val=0",
    "data.num_pairs=0", "data.num_pairs=100", "mixer.num_heads=3", "mixer.state_dim=0", "schedule.warmup_steps=-1",
    "trainer.limit_val_batches=0", "trainer.val_check_interval=0.5", "trainer.precision=16-true",
    "trainer.accelerator=quantum", "trainer.devices=1000", "trainer.strategy=nothing", "trainer.strategy=ddp_spawn",
    "trainer.max_time=soon", "trainer.accumulate_grad_batches=0", "data.num_workers=-1", "threads=0",
    "threads=100000", "compile=maybe", "callbacks.ema=abc", "callbacks.ema=2", "callbacks.stop_at=[1]",
    "callbacks.nonfinite_skips=-1", "callbacks.patience=0", "callbacks.checkpoint.every=0", "logger.csv=3",
    "allow_targets=[", "allow_targets=3",
    # grammar, interpolations
    "optim.lr='abc", "seed=1,2", "name=${nothing}", "name=${name}", "name=${oc.env:NOT_THERE}", "seed=${divide:3,2}",
    "=3", "seed",
    # classes
    "oscillation._target_=os.system", "+oscillation.inner._target_=os.system", "data._target_=lcsm.cli.main",
    "task._target_=lcsm.training.files.os.system", "optim._target_=torch.load",
    "+trainer.plugins=[{_target_: os.system}]",
    # names and places
    "name=..", "name=../../../x", "name=" + "x" * 300, "paths.root=", "hydra.run.dir=", "paths.root=/dev/null",
    "resume=nothing", "resume=http://127.0.0.1:9/x.ckpt", "resume=file:///x.ckpt", "resume=.",
    # Hydra's own settings
    "hydra.launcher._target_=x", "hydra.launcher._target_=foreign_code.Evil",
    "hydra.sweeper._target_=foreign_code.Evil", "+hydra.callbacks.mine={_target_: foreign_code.Evil}",
    "hydra.searchpath=[pkg://foreign_package]", "+hydra.job_logging.handlers.mine={(): foreign_code.Evil}",
    "hydra.output_subdir=../../..", "hydra.job.chdir=maybe",
)  # fmt: skip

FLAGS = (
    ("--no-such-flag",), ("--shell-completion",), ("--experimental-rerun=x.pickle",), ("--config-dir=nothing",),
    ("--config-name=nothing",), ("--config-path=nothing",), ("--multirun", "--cfg", "job"), ("--config-dir",),
    ("-m", "seed=1,x"), ("-m", "seed=1,2", "trainer.devices=2"), ("-m", "model=gla,nothing"),
)  # fmt: skip

# settings of a text run that count at its first validation
WRONG_SAMPLES = (
    "callbacks.samples.temperature=-1",
    "callbacks.samples.prompt_tokens=0",
    "callbacks.samples.num_tokens=0",
)

RIGHT = (
    (), ("model=gla",), ("model=s4d_lin",), ("model=attention",), ("oscillation=dense", "mixer.state_dim=4"),
    ("optim=sgd",), ("schedule=constant",), ("logger=none",), ("callbacks.ema=0.9",), ("trainer.precision=64-true",),
    ("threads=2",), ('name="Größe 1"',), ("hydra.run.dir=in a folder/with spaces",), ("resume=auto",),
    ("hydra/job_logging=disabled",),
    ("--cfg", "job"), ("-m", "seed=1,2"), ("trainer.max_time=00:00:10:00",), ("callbacks.checkpoint.every=null",),
    ("data.num_pairs=[1,2]",), ("--help",), ("trainer.accumulate_grad_batches=2",),
)  # fmt: skip

NOTHING = (
    (("trian",), INVALID), (("oscillation=diag",), INVALID), (("--verison",), INVALID), (("",), INVALID),
    (("\udcff",), INVALID), ((), VALID), (("--help",), VALID), (("--version",), VALID), (("help",), VALID),
)  # fmt: skip


def cases() -> list[Case]:
    """All of them."""
    found = [Case(f"train {word[:60]}", (*TRAIN, word), INVALID) for word in WRONG]
    found += [Case(f"train {' '.join(words)}", (*TRAIN, *words), INVALID) for words in FLAGS]
    found += [Case(f"train, right: {' '.join(words)}", (*TRAIN, *words), VALID) for words in RIGHT]
    found += [Case(f"lcsm {words!a}", words, expected) for words, expected in NOTHING]
    samples = (*(word for word in TEXT if not word.startswith("callbacks.samples")), "trainer.val_check_interval=1")
    text = {"t.txt": "a text " * 200}
    found += [Case(f"train, text, {word}", (*samples, word), INVALID, text) for word in WRONG_SAMPLES]
    found += [
        Case("train on a folder that cannot be made", (*TRAIN, "paths.root=/proc/x"), INVALID, allowed=("/proc",),
             never="No such file"),
        Case("train below a file", (*TRAIN, "paths.root=f/x"), INVALID, {"f": "a file"}),
        Case("train, words in two processes", (*TRAIN, "data.num_workers=2"), VALID, forks=8),
        Case("train with a huge state", (*TRAIN, "mixer.state_dim=100000000000"), LARGE),
        Case("train with a huge vocabulary", (*TRAIN, "data.vocab_size=100000000000"), LARGE),
        Case("train a vocabulary of 1e11", (*TEXT, "data.tokenizer=bpe", "data.vocab_size=100000000000"), INVALID,
             text),
        Case("train where nothing may be written", TRAIN, INVALID, change=lambda work: work.chmod(0o555),
             conditions=(("without_rights",),)),
        Case("train with an empty name", (*TRAIN, "name="), EITHER),
    ]  # fmt: skip
    return found
