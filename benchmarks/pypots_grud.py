"""PyPOTS' GRU-D behind a pipe: an `.npz` file in, seconds of one epoch out for every line that is read.

`benchmarks/training.py` starts it with whichever Python has PyPOTS; nothing of this project is imported. `fit_s` is
a whole call of `fit` with one epoch, `epoch_s` the part of it that trains, without the preparation of the data.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time

import numpy as np


def main() -> None:
    """Answers until the input ends."""
    file, threads, hidden, batch = sys.argv[1], *(int(a) for a in sys.argv[2:5])
    # PyPOTS greets and logs on standard output, which is the pipe here.
    with contextlib.redirect_stdout(sys.stderr):
        import pypots
        import torch
        from pypots.classification import GRUD

    class Timed(GRUD):
        """Keeps the seconds of the loop over the data."""

        epoch_s = 0.0

        def _train_model(self, *arguments: object, **named: object) -> None:
            began = time.perf_counter()
            super()._train_model(*arguments, **named)
            self.epoch_s = time.perf_counter() - began

    torch.set_num_threads(threads)
    with np.load(file) as arrays:
        data = {"X": arrays["X"], "y": arrays["y"]}
    _, steps, features = data["X"].shape
    print(json.dumps({"pypots": pypots.__version__, "torch": torch.__version__}), flush=True)
    for _ in sys.stdin:
        with contextlib.redirect_stdout(sys.stderr):
            model = Timed(
                n_steps=steps,
                n_features=features,
                n_classes=2,
                rnn_hidden_size=hidden,
                batch_size=batch,
                epochs=1,
                device="cpu",
                verbose=False,
            )
            began = time.perf_counter()
            model.fit(data)
            fit_s = time.perf_counter() - began
        print(json.dumps({"epoch_s": model.epoch_s, "fit_s": fit_s}), flush=True)


if __name__ == "__main__":
    main()
