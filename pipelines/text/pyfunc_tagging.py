"""The MLflow model of a tagger, logged as code: rows of texts in, a row a span out, from the artifact it carries.

MLflow copies this file beside the artifact and runs it when the model is loaded, so loading needs the `sequela`
package of the version that the model's requirements name. No object is unpickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from models.disclaimer import DISCLAIMER_EN
from models.text.tagging_artifact import load_tagging_artifact
from pipelines.text.pyfunc_rows import texts_and_ids
from pipelines.text.tagging_score import span_table


class TaggingPyfunc(PythonModel):
    """Tags rows with the columns `text` and, if wanted, `document_id`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads and verifies the artifact: digests, schema and golden spans."""
        self._tagger = load_tagging_artifact(Path(context.artifacts["bundle"])).tagger

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row a span: `document_id`, `start`, `end`, `label`, `probability` and the disclaimer.

        Raises:
            DataError: if a text is missing.
        """
        del context, params
        return span_table(self._tagger, *texts_and_ids(model_input)).assign(disclaimer=DISCLAIMER_EN)


set_model(TaggingPyfunc())
