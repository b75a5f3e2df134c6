"""A tiny model learns recall from a configuration's data, model and optimiser, in seconds."""

import pytest
import torch

from lcsm.commands.assemble import build_data, build_task
from tests.compose import compose

SMALL = (
    "model.d_model=32",
    "model.num_layers=1",
    "mixer.num_heads=2",
    "mixer.state_dim=16",
    "data.num_val=256",
    "schedule.warmup_steps=0",
    "trainer.max_steps=200",
)
RECALL = ("task=mqar", "data.length=16", "data.vocab_size=16", "data.num_pairs=2")
COPYING = ("task=copying", "data.length=13", "data.vocab_size=12", "data.num_symbols=[3,6]", "data.val_lengths=[1]")


@pytest.mark.parametrize("words", [RECALL, COPYING], ids=["two pairs", "three and six symbols"])
def test_what_was_shown_is_recalled_after_two_hundred_steps(words: tuple[str, ...]):
    config = compose(*SMALL, *words)
    data = build_data(config)
    task = build_task(config, data)
    made = task.configure_optimizers()
    for batch, _ in zip(data.train_dataloader(), range(200), strict=False):
        nats, count = task.loss_sum(batch)
        made["optimizer"].zero_grad()
        (nats / count).backward()
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    with torch.no_grad():
        scored = [task.scored(batch) for batch in data.val_dataloader()[0]]
    hits = torch.cat([logits.argmax(-1) == targets for logits, targets in scored])
    assert hits.double().mean() > 0.9
