"""What is submitted in these tests."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from submitted import WriteCard, recard

from vaebench.core import registry as plugins
from vaebench.core.data import Source
from vaebench.models import card as cards
from vaebench.models import loading


@pytest.fixture
def mine(tmp_path: Path, write_card: WriteCard) -> Path:
    """The folder of a submission in which nothing is wrong."""
    folder = tmp_path / "submitted"
    source = plugins.load("datasets", "digits")
    assert isinstance(source, Source)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = loading.build_model(cards.read(write_card(folder=folder)), source.space)
    save_file(model.state_dict(), folder / "mine.safetensors")
    recard(folder, write_card)
    return folder
