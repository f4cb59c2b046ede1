"""A document of 50,000 tokens trains in the memory of one of 256: what grows is read from a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

CODE = """
import json, tempfile
from pathlib import Path
import numpy as np
import torch
from models.encoded import Encoded
from models.text.network import TextNetworkConfig
from pipelines.text.config import TextPretrainingConfig
from pipelines.text.pretrain import pretrain_text
from pipelines.training_config import Monitor, TrainingConfig

torch.set_num_threads(1)

def train(length, documents, chunk=256):
    ids = (np.arange(length * documents) % 7 + 1)[:, None]
    encoded = Encoded(ids, np.arange(0, len(ids) + 1, length), np.arange(len(ids)))
    with tempfile.TemporaryDirectory() as folder:
        pretrain_text(
            encoded,
            network=TextNetworkConfig(embedding_size=32, hidden_size=64),
            vocabulary_size=300,
            config=TextPretrainingConfig(epochs=1, rows=2, truncation_length=chunk),
            training=TrainingConfig(monitor=Monitor.LAST, accelerator="cpu"),
            seed=0,
            folder=Path(folder),
        )
    # Not `ru_maxrss`, which begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])

# The highest so far after each: nothing, documents of 256 tokens, two of 50,000 in chunks, and half of one as a whole.
print(json.dumps([train(256, 8), train(256, 391), train(50_000, 2), train(25_000, 2, chunk=25_000)]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the highest memory stands in proc")
def test_a_document_of_50_000_tokens_trains_in_the_memory_of_one_of_256() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment)
    _, short, long, whole = json.loads(done.stdout.splitlines()[-1])
    assert long / short <= 1.03
    assert whole / short >= 1.2
