"""Speech Commands: one spoken word out of 35 as 16,000 samples of sound."""

import io
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lcsm.data.labelled.base import LabelledData
from lcsm.data.labelled.folders import file_facts, require_folder
from lcsm.data.labelled.hub import load_split
from lcsm.data.labelled.store import LabelledSet, LabelledSource, joined
from lcsm.data.settings import CachedLoading, flat
from lcsm.errors import UsageError

RATE = 16000
WORDS = (
    "backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go", "happy",
    "house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven", "sheila", "six", "stop",
    "three", "tree", "two", "up", "visual", "wow", "yes", "zero",
)  # fmt: skip
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
EXPECTED = (
    "validation_list.txt, testing_list.txt and a folder with *.wav for each of the 35 words: "
    "speech_commands_v0.02.tar.gz"
)
BLOCK = 200


def samples(content: bytes, name: str) -> np.ndarray:
    """One second of 16-bit mono sound at 16 kHz from a WAV file, zeros behind shorter ones, int16 [16000]."""
    try:
        with wave.open(io.BytesIO(content)) as sound:
            form = sound.getnchannels(), sound.getsampwidth(), sound.getframerate()
            values = np.frombuffer(sound.readframes(sound.getnframes()), dtype="<i2")
    except (wave.Error, EOFError, ValueError) as error:
        raise UsageError(f"{name} is no readable WAV file: {error}") from error
    if form != (1, 2, RATE):
        raise UsageError(
            f"{name} has {form[0]} channels of {8 * form[1]} bits at {form[2]} Hz; expected 1 of 16 at {RATE}"
        )
    return np.pad(values[:RATE], (0, max(0, RATE - len(values))))


class Commands(LabelledSource):
    """The 35 words of version 0.02, with the splits of its lists: 84,843 for training, 9,981 and 11,005.

    Args:
        root: folder of the original archive; None loads `dataset` from the hub.
        dataset, subset: name and configuration on the hub, with columns audio and label, the label a name of a word.
    """

    name = "Speech Commands"
    dtype = np.int16

    def __init__(self, root: str | None, dataset: str, subset: str | None) -> None:
        self.dataset, self.subset = dataset, subset
        self.folder = None if root is None else require_folder(root, EXPECTED)
        self.settings = {"dataset": dataset, "subset": subset}
        if self.folder is not None:
            lists = [name for name in LISTS.values() if not (self.folder / name).is_file()]
            missing = [*lists, *(word for word in WORDS if not (self.folder / word).is_dir())]
            if missing:
                raise UsageError(f"data.root={root} lacks {', '.join(missing[:6])};\nexpected {EXPECTED}")
            self.settings = file_facts(self.folder / name for name in (*LISTS.values(), *WORDS))

    def blocks(self, split: str) -> Iterator[LabelledSet]:
        sounds, labels = [], []
        for sound, label in self.local(self.folder, split) if self.folder is not None else self.remote(split):
            sounds.append(sound)
            labels.append(label)
            if len(sounds) == BLOCK:
                yield block(sounds, labels)
                sounds, labels = [], []
        if sounds:
            yield block(sounds, labels)

    def local(self, folder: Path, split: str) -> Iterator[tuple[np.ndarray, int]]:
        """Sounds and labels from the files of a split."""
        listed = {part: set((folder / name).read_text().split()) for part, name in LISTS.items()}
        for label, word in enumerate(WORDS):
            for path in sorted((folder / word).glob("*.wav")):
                parts = [part for part, names in listed.items() if f"{word}/{path.name}" in names] or ["train"]
                if split in parts:
                    yield samples(path.read_bytes(), str(path)), label

    def remote(self, split: str) -> Iterator[tuple[np.ndarray, int]]:
        """Sounds and labels from the hub; other labels, such as silence, are left out."""
        import datasets

        table = load_split(self.dataset, self.subset, split, ("audio", "label"))
        names = table.features["label"].names
        for row in table.cast_column("audio", datasets.Audio(decode=False)):
            word = names[row["label"]]
            if word in WORDS:
                yield samples(row["audio"]["bytes"], str(row["audio"]["path"])), WORDS.index(word)


def block(sounds: list[np.ndarray], labels: list[int]) -> LabelledSet:
    """Sounds of equal length and their labels."""
    return LabelledSet((joined(np.concatenate(sounds), np.full(len(sounds), RATE)),), np.array(labels))


class SpeechCommands(LabelledData):
    """Speech Commands with 35 words: which word is it? Raw sound, 16,000 samples.

    Args:
        root: folder of the original archive; None loads `dataset`.
        dataset, subset: name and configuration on the Hugging Face hub.
        deviation: standard deviation of the samples, by which they are divided, in units of the largest sample.
        loading: see `LabelledData`.
    """

    num_classes = len(WORDS)
    num_features = 1

    @flat
    def __init__(
        self, root: str | None, dataset: str, subset: str | None, deviation: float, loading: CachedLoading
    ) -> None:
        super().__init__(RATE, loading)
        if not deviation > 0:
            raise UsageError(f"data.deviation={deviation} must be positive; 1 keeps the samples within -1 and 1")
        self.root, self.dataset, self.subset = root, dataset, subset
        self.scale = (0.0, deviation * 2**15)

    def source(self) -> LabelledSource:
        return Commands(self.root, self.dataset, self.subset)
