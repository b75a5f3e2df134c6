"""Token ids on disk, and the rows of length L + 1 that training and validation cut from them."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from lcsm.batch import NOT_SCORED, Batch
from lcsm.data.base import EvaluationBatches
from lcsm.data.sampling import TRAIN, EpochOrder, Shard, stream
from lcsm.data.settings import Loading


class TokenStore:
    """Documents, one behind the other, as a memory-mapped array of ids.

    Args:
        path: a `.npy` file with uint16 or uint32 [tokens].
        end_of_document: the id that ends every document.
        byte_lengths: bytes of text per id, int64 [V].
    """

    def __init__(self, path: Path, end_of_document: int, byte_lengths: np.ndarray) -> None:
        self.path = path
        self.end_of_document = end_of_document
        self.byte_lengths = byte_lengths

    @cached_property
    def tokens(self) -> np.ndarray:
        """Ids, uint16 or uint32 [tokens]."""
        return np.load(self.path, mmap_mode="r", allow_pickle=False)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getstate__(self) -> dict[str, Any]:
        # a worker process maps the file itself; pickling the map would copy the whole corpus
        return {name: value for name, value in self.__dict__.items() if name != "tokens"}

    def batch(self, rows: np.ndarray, is_text: np.ndarray | None, segments: bool) -> Batch:
        """Inputs, targets and byte counts of rows of ids.

        Args:
            rows: ids, int64 [B L+1].
            is_text: False where a row is only padded, bool [B L+1]; None without padding.
            segments: whether to number the documents of a row.
        Returns:
            tokens and targets int64 [B L]; bytes int64 [B], the text that the scored targets stand for; with `segments`
            also segments int64 [B L]. The end of a document belongs to the next one as its prompt, so that no
            prediction crosses documents. Padding is a segment of its own.
        """
        tokens, targets = rows[:, :-1].copy(), rows[:, 1:].copy()
        lengths = self.byte_lengths[targets]
        if is_text is not None:
            lengths = np.where(is_text[:, 1:], lengths, 0)
            targets[~is_text[:, 1:]] = NOT_SCORED
        batch: Batch = {
            "tokens": torch.from_numpy(tokens),
            "targets": torch.from_numpy(targets),
            "bytes": torch.from_numpy(lengths.sum(axis=1)),
        }
        if segments:
            batch["segments"] = torch.from_numpy(self._segments(tokens, is_text))
        return batch

    def _segments(self, tokens: np.ndarray, is_text: np.ndarray | None) -> np.ndarray:
        ends = tokens == self.end_of_document
        if is_text is None:
            return np.cumsum(ends, axis=1)
        shown = is_text[:, :-1]
        return np.cumsum(ends & shown, axis=1) + ~shown


class TrainingBatches(Dataset[Batch]):
    """Endless epochs of non-overlapping rows; batch i is a function of (seed, i).

    Every epoch shifts all rows by a new offset below the row's length and visits them in a new order.

    Args:
        store: ids, at least `length` + 1 of them.
        length: tokens in a row, L.
        loading: rows in a global batch, and the seed.
        shard: this process's part.
        segments: whether batches number their documents.
    """

    def __init__(self, store: TokenStore, length: int, loading: Loading, shard: Shard, segments: bool) -> None:
        self.store = store
        self.length = length
        self.loading = loading
        self.shard = shard
        self.segments = segments
        # one row fewer than fits, so that every offset leaves the same number of rows
        self.rows = max(1, (len(store) - length) // length)
        self.offsets = min(length, len(store) - self.rows * length)
        self.order = EpochOrder(loading.seed, self.rows)

    def __getitem__(self, index: int) -> Batch:
        size = self.loading.batch_size
        mine = self.shard.slice(size)
        epochs, rows = self.order.locate(index * size + np.arange(mine.start, mine.stop))
        different, place = np.unique(epochs, return_inverse=True)
        offsets = np.array([self._offset(int(epoch)) for epoch in different])[place]
        windows = np.lib.stride_tricks.sliding_window_view(self.store.tokens, self.length + 1)
        return self.store.batch(windows[offsets + rows * self.length].astype(np.int64), None, self.segments)

    def _offset(self, epoch: int) -> int:
        return int(stream(self.loading.seed, TRAIN, 1, epoch).integers(self.offsets))


class EvaluationRows(EvaluationBatches):
    """Non-overlapping rows over all the ids; every id but the first is scored exactly once, whatever the length.

    The last row is padded behind the text, where nothing is scored.

    Args:
        store: ids.
        length: tokens in a row, L.
        batch_size: rows in a global batch at most.
        limit: ids that are scored at most; None scores all.
        shard: this process's part.
        segments: whether batches number their documents.
    """

    def __init__(
        self, store: TokenStore, length: int, batch_size: int, limit: int | None, shard: Shard, segments: bool
    ) -> None:
        self.store = store
        self.length = length
        self.scored = scored_tokens(len(store), limit)
        self.segments = segments
        super().__init__(-(-self.scored // length), batch_size, shard)

    def rows(self, chosen: slice) -> Batch:
        starts = np.arange(chosen.start, chosen.stop) * self.length
        places = starts[:, None] + np.arange(self.length + 1)
        is_text = places <= self.scored
        ids = self.store.tokens[np.minimum(places, self.scored)].astype(np.int64)
        ids[~is_text] = self.store.end_of_document
        return self.store.batch(ids, is_text, self.segments)


def scored_tokens(tokens: int, limit: int | None) -> int:
    """Ids that evaluation scores: all but the first, which nothing predicts, and no more than the limit."""
    return tokens - 1 if limit is None else min(tokens - 1, limit)
