"""The MLflow model, logged as code: rows of stays in, calibrated risks out, from the artifact folder it carries.

MLflow copies this file beside the artifact and runs it when the model is loaded, so loading needs the
`sequela` package of the version that the model's requirements name. No object is unpickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from models.artifact import load_artifact
from models.disclaimer import DISCLAIMER_EN
from pipelines.pyfunc_rows import RowReader

EVERY_STEP = "every_step"


class SequelaModel(PythonModel):
    """Scores rows; see `pipelines.pyfunc_rows` for their columns."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads and verifies the artifact: digests, schema and golden scores."""
        self._scorer = load_artifact(Path(context.artifacts["bundle"]))
        self._reader = RowReader(self._scorer.bundle)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row a stay, with the risk at its end; one row a time step with the parameter `every_step`.

        Returns:
            `stay_id`, `time_h`, `risk` (of the first output), `risk_<output>` for every output where there are
            several, `spread` likewise where the model has several members, `left_out` (inputs that no score used)
            and the disclaimer.

        Raises:
            DataError: naming the row and column that does not hold, never their content.
        """
        del context  # what it holds was read when the model was loaded
        rows = [{str(name): value for name, value in row.items()} for row in model_input.to_dict("records")]
        stays, left_out = self._reader.read(rows)
        scored = self._scorer.score(stays)
        stay = np.repeat(np.arange(len(rows)), np.diff(scored.step_offsets))
        chosen = np.arange(len(stay)) if (params or {}).get(EVERY_STEP) else scored.final
        identifiers = [str(row.get("stay_id") or i) for i, row in enumerate(rows)]
        names = self._scorer.bundle.task.output_names
        table: dict[str, Any] = {
            "stay_id": [identifiers[i] for i in stay[chosen]],
            "time_h": scored.time_min[chosen] / 60.0,
            "risk": scored.risk[chosen, 0],
        }
        table |= {f"risk_{name}": scored.risk[chosen, k] for k, name in enumerate(names) if len(names) > 1}
        if len(self._scorer.bundle.members) > 1:
            table["spread"] = scored.spread[chosen, 0]
            table |= {f"spread_{name}": scored.spread[chosen, k] for k, name in enumerate(names) if len(names) > 1}
        table |= {"left_out": [left_out[i] for i in stay[chosen]], "disclaimer": DISCLAIMER_EN}
        return pd.DataFrame(table)


set_model(SequelaModel())
