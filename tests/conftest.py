"""One thread for all tests, because small operations on several are slower and less repeatable; their own cache."""

import os
import tempfile

import pytest
import torch

torch.set_num_threads(1)
os.environ["LCSM_CACHE"] = tempfile.mkdtemp(prefix="lcsm-tests-")
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
