"""One stay through the pipeline, the pyfunc and `POST /v1/score` of a real service: the same number."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

from models.artifact import load_artifact
from pipelines.demo import request_body
from pipelines.local_server import free_port, post_json, running
from pipelines.score_cohort import score_table
from pipelines.tracking import mlflow, quiet

STAYS = (0, 5, 33, 200)
# Risks across engines and processes.
TOLERANCE = 1e-5


@pytest.mark.slow
def test_pipeline_pyfunc_and_service_give_the_same_trajectory(line, register, tmp_path):
    version = register("parity", line.good)
    offline = score_table(load_artifact(line.good.artifact), line.cohort)
    bodies = {line.cohort.stays.stay_id[i]: request_body(line.cohort, i) | {"trajectory": True} for i in STAYS}
    with quiet():
        model = mlflow.pyfunc.load_model(f"models:/parity/{version}")
    rows = [
        {"stay_id": stay, "as_of_h": float(body["as_of_h"])}
        | {key: json.dumps(body[key]) for key in ("observations", "notes", "static")}
        for stay, body in bodies.items()
    ]
    predicted = model.predict(pd.DataFrame(rows), {"every_step": True})
    port = free_port()
    environment = line.settings.environment() | {
        "SEQUELA_MODEL": f"models:/parity/{version}",
        "SEQUELA_PORT": str(port),
        "SEQUELA_CACHE": str(tmp_path / "cache"),
    }
    base = f"http://127.0.0.1:{port}"
    with running(
        [sys.executable, "-m", "service"], url=f"{base}/readyz", log=tmp_path / "log", environment=environment
    ):
        answers = {stay: post_json(f"{base}/v1/score", body) for stay, body in bodies.items()}
    for stay, answer in answers.items():
        expected = offline[offline["stay_id"] == stay]
        from_pyfunc = predicted[predicted["stay_id"] == stay]
        from_service = pd.DataFrame(answer["trajectory"])
        for got in (from_pyfunc, from_service):
            assert np.allclose(got["time_h"], expected["time_h"])
            assert np.abs(got["risk"].to_numpy() - expected["risk"].to_numpy()).max() <= TOLERANCE
        assert answer["risk"] == pytest.approx(expected["risk"].iloc[-1], abs=TOLERANCE)
        assert answer["model"]["digest"] == line.good.digest
