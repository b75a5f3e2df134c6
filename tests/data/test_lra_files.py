"""Texts, images and sounds from local folders: what is read, and what is said when something is missing."""

import os
import pickle
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcsm.data.labelled.images import TRAINING_FILES, Cifar10Grey, Digits, grey
from lcsm.data.labelled.speech import RATE, WORDS, SpeechCommands
from lcsm.data.sampling import Shard
from lcsm.errors import UsageError
from tests.data.helpers import take
from tests.data.labelled_helpers import COMMON, make_aan, make_imdb


def make_cifar(root: Path, **settings: Any) -> Cifar10Grey:
    return Cifar10Grey(**(COMMON | {"root": str(root), "dataset": "none"} | settings))


def make_speech(root: Path) -> SpeechCommands:
    return SpeechCommands(**COMMON, root=str(root), dataset="none", subset=None, deviation=0.5)


def write_cifar(root: Path, python: bool) -> np.ndarray:
    """Ten images a file; the colours of the test file."""
    colours = np.random.default_rng(0).integers(256, size=(10, 3072), dtype=np.uint8)
    for name in (*TRAINING_FILES, "test_batch"):
        if python:
            (root / name).write_bytes(pickle.dumps({b"data": colours, b"labels": list(range(10))}, protocol=2))
        else:
            rows = np.concatenate([np.arange(10, dtype=np.uint8)[:, None], colours], 1)
            (root / f"{name}.bin").write_bytes(rows.tobytes())
    return colours


def write_sounds(root: Path) -> None:
    for word in WORDS:
        (root / word).mkdir()
    for index, word in enumerate(("yes", "yes", "no", "zero")):
        with wave.open(str(root / word / f"{index}.wav"), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(RATE)
            sound.writeframes(np.full(RATE - index, 1000 * (index + 1), dtype="<i2").tobytes())
    (root / "validation_list.txt").write_text("no/2.wav\n")
    (root / "testing_list.txt").write_text("zero/3.wav\n")


def test_reviews_are_bytes_with_an_end(tmp_path: Path):
    batch = make_imdb(tmp_path).evaluation_batches("test", Shard())["1x"][0]
    assert batch["labels"].tolist() == [1, 1, 0, 0]
    assert batch["tokens"][0][:9].tolist() == [2 + byte for byte in b"test pos"] + [1]
    assert batch["mask"].sum(1).tolist() == [9, 32, 9, 32]


def test_validation_is_a_share_of_the_training_reviews(tmp_path: Path):
    splits = make_imdb(tmp_path, val_fraction=0.25).prepare().facts["splits"]
    assert {name: part["examples"] for name, part in splits.items()} == {"train": 3, "validation": 1, "test": 4}


def test_missing_reviews_are_named(tmp_path: Path):
    module = make_imdb(tmp_path)
    for path in (tmp_path / "train/neg").iterdir():
        path.unlink()
    (tmp_path / "train/neg").rmdir()
    with pytest.raises(UsageError, match=r"lacks train/neg;\nexpected train/pos, train/neg, test/pos and test/neg"):
        module.prepare()
    with pytest.raises(UsageError, match="is no folder"):
        make_imdb(tmp_path, root=str(tmp_path / "none")).prepare()


def test_pairs_have_two_sequences_of_one_length(tmp_path: Path):
    batch = make_aan(tmp_path / "aan").evaluation_batches("validation", Shard())["1x"][0]
    assert batch["tokens"].shape == batch["other"]["tokens"].shape
    assert batch["mask"].sum(1).tolist() == [11] and batch["other"]["mask"].sum(1).tolist() == [20]
    assert bytes(batch["other"]["tokens"][0][:6].numpy().astype(np.uint8) - 2) == b"second"
    longest = make_aan(tmp_path / "aan").prepare().load("train").documents[0].lengths
    assert longest.tolist() == [11, 2, 64]


def test_pairs_say_which_files_are_missing_or_broken(tmp_path: Path):
    with pytest.raises(UsageError, match=r"needs data.root=<folder>.*\nit holds new_aan_pairs.train.tsv"):
        make_aan(tmp_path / "aan", root=None).prepare()
    module = make_aan(tmp_path / "aan")
    (tmp_path / "aan/new_aan_pairs.eval.tsv").write_text("1.0\tone text only\n")
    with pytest.raises(UsageError, match=r"new_aan_pairs.eval.tsv, line 1: expected label"):
        module.prepare()
    (tmp_path / "aan/new_aan_pairs.test.tsv").unlink()
    with pytest.raises(
        UsageError, match=r"lacks new_aan_pairs.test.tsv;\nexpected new_aan_pairs.train.tsv, new_aan_pairs.eval"
    ):
        module.prepare()


@pytest.mark.parametrize("python", [True, False])
def test_images_become_sequences_of_grey_values(tmp_path: Path, python: bool):
    colours = write_cifar(tmp_path, python).reshape(10, 3, 1024)
    module = make_cifar(tmp_path)
    batch = module.evaluation_batches("test", Shard())["1x"][0]
    expected = (0.299 * colours[:, 0] + 0.587 * colours[:, 1] + 0.114 * colours[:, 2] - 122.6) / 61.0
    assert batch["inputs"].shape == (5, 1024, 1) and "segments" not in batch
    np.testing.assert_allclose(batch["inputs"][..., 0], expected[:5], atol=0.6 / 61)
    assert [part["examples"] for part in module.prepare().facts["splits"].values()] == [45, 5, 10]


def test_grey_rounds_as_pillow_does():
    from PIL import Image

    colours = np.random.default_rng(0).integers(256, size=(1, 3, 1024), dtype=np.uint8)
    image = Image.fromarray(colours[0].reshape(3, 32, 32).transpose(1, 2, 0))
    assert (grey(colours)[0] == np.asarray(image.convert("L")).ravel()).all()


class Harmful:
    """What a pickle from elsewhere may hold."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.putenv, ("LCSM_HARM", "1")


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path):
    write_cifar(tmp_path, python=True)
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(UsageError, match=r"data_batch_3 is no batch of CIFAR-10: it names posix.putenv"):
        make_cifar(tmp_path).prepare()


def test_missing_and_broken_images_are_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"lacks the files of CIFAR-10;\nexpected data_batch_1 to data_batch_5"):
        make_cifar(tmp_path).prepare()
    write_cifar(tmp_path, python=False)
    (tmp_path / "test_batch.bin").write_bytes(b"short")
    with pytest.raises(UsageError, match=r"test_batch.bin has 5 bytes"):
        make_cifar(tmp_path).prepare()


def test_sounds_follow_the_lists_of_the_archive(tmp_path: Path):
    write_sounds(tmp_path)
    module = make_speech(tmp_path)
    sets = [module.prepare().load(split) for split in ("train", "validation", "test")]
    assert [[WORDS[label] for label in part.labels] for part in sets] == [["yes", "yes"], ["no"], ["zero"]]
    batch = module.evaluation_batches("validation", Shard())["1x"][0]
    assert batch["inputs"].shape == (1, RATE, 1)
    assert batch["inputs"][0, 0, 0] == 3000 / 2**14 and batch["inputs"][0, -1, 0] == 0


def test_missing_and_broken_sounds_are_named(tmp_path: Path):
    write_sounds(tmp_path)
    (tmp_path / "yes/0.wav").write_bytes(b"no sound")
    with pytest.raises(UsageError, match=r"0.wav is no readable WAV file"):
        make_speech(tmp_path).prepare()
    (tmp_path / "validation_list.txt").unlink()
    with pytest.raises(UsageError, match=r"lacks validation_list.txt;\nexpected validation_list.txt, testing_list.txt"):
        make_speech(tmp_path).prepare()


def test_digits_are_split_the_same_for_every_seed():
    pytest.importorskip("sklearn")
    modules = [Digits(**(COMMON | {"seed": seed})) for seed in (1, 2)]
    assert modules[0].describe() == modules[1].describe()
    batches = [take(module.train_dataloader(), 1)[0] for module in modules]
    assert batches[0]["inputs"].shape == (8, 64, 1)
    assert not (batches[0]["inputs"] == batches[1]["inputs"]).all()
    values = modules[0].prepare().load("train").documents[0].flat
    assert abs(values.mean() - 4.884) < 0.05 and abs(values.std() - 6.017) < 0.05


def test_a_name_on_the_hub_without_network_says_what_to_do(tmp_path: Path):
    with pytest.raises(UsageError, match=r"data.dataset=nobody/nothing cannot be reached.*\n.*set data.root"):
        make_imdb(tmp_path, root=None, dataset="nobody/nothing", cache_dir=str(tmp_path)).prepare()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UsageError, match=r"the cache .*cache/labelled cannot be used"):
        make_aan(tmp_path / "aan", cache_dir=str(tmp_path / "cache")).prepare()


def test_changed_files_are_read_again(tmp_path: Path):
    first, second = make_aan(tmp_path / "aan"), make_aan(tmp_path / "aan")
    assert first.describe()["train_examples"] == 3
    (tmp_path / "aan/new_aan_pairs.train.tsv").write_text("1\ta\tb\tother\ttexts\n")
    assert second.describe()["train_examples"] == 1
