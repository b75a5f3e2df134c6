"""A tiny model learns recall from a configuration's data, model and optimiser, in seconds."""

import torch

from lcsm.commands.assemble import build_data, build_task
from tests.compose import compose

WORDS = (
    "task=mqar",
    "model.d_model=32",
    "model.num_layers=1",
    "mixer.num_heads=2",
    "mixer.state_dim=16",
    "data.length=16",
    "data.vocab_size=16",
    "data.num_pairs=2",
    "data.num_val=256",
    "schedule.warmup_steps=0",
    "trainer.max_steps=200",
)


def test_two_pairs_are_recalled_after_two_hundred_steps():
    config = compose(*WORDS)
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
    hits = torch.cat([logits.argmax(-1) == targets for logits, targets, _ in scored])
    assert hits.double().mean() > 0.9
