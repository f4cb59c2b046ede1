"""The MLflow model of documents, logged as code: rows of texts in, a row a document out, from the artifact it carries.

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
from models.text.artifact import load_text_artifact
from pipelines.text.document_score import risk_table
from pipelines.text.pyfunc_rows import texts_and_ids


class DocumentsPyfunc(PythonModel):
    """Classifies rows with the columns `text` and, if wanted, `document_id`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads and verifies the artifact: digests, schema and golden risks."""
        self._scorer = load_text_artifact(Path(context.artifacts["bundle"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row a document: `document_id`, `label`, `risk_<label>` of every label and the disclaimer.

        Raises:
            DataError: if a text is missing.
        """
        del context, params
        return risk_table(self._scorer, *texts_and_ids(model_input)).assign(disclaimer=DISCLAIMER_EN)


set_model(DocumentsPyfunc())
