"""The pyfunc gives the pipeline's scores, loads without a pickle, and refuses rows without repeating them."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest

from models.artifact import load_artifact
from models.disclaimer import DISCLAIMER_EN
from models.errors import DataError, UnitError
from pipelines.demo import request_body
from pipelines.pyfunc_rows import RowReader
from pipelines.pyfunc_signature import input_example
from pipelines.tracking import connect, mlflow, quiet

STAYS = tuple(range(12))


@pytest.fixture(scope="module")
def address(line):
    from dataclasses import replace

    from pipelines.publish import Publication

    with Publication(replace(line.config, name="carried"), line.settings) as publication:
        return f"models:/carried/{publication.register(line.good)}"


@pytest.fixture(scope="module")
def loaded(line, address):
    connect(line.settings)
    with quiet():
        return mlflow.pyfunc.load_model(address)


@pytest.fixture(scope="module")
def rows(line):
    return pd.DataFrame([_row(request_body(line.cohort, i)) for i in STAYS])


@pytest.fixture(scope="module")
def reader(line):
    return RowReader(line.good.bundle)


def _row(body):
    return {**{k: json.dumps(body[k]) for k in ("observations", "notes", "static")}, "as_of_h": float(body["as_of_h"])}


def _predict(model, table, params=None):
    with quiet():
        return model.predict(table, params)


def test_every_row_gets_the_pipeline_s_score(line, loaded, rows):
    expected = load_artifact(line.good.artifact).score(line.cohort.stays.select(STAYS))
    answer = _predict(loaded, rows)
    np.testing.assert_allclose(answer["risk"], expected.risk[expected.final, 0], atol=1e-6)
    np.testing.assert_allclose(answer["time_h"], expected.time_min[expected.final] / 60.0)
    assert set(answer["disclaimer"]) == {DISCLAIMER_EN}


def test_every_time_step_gets_its_score_if_asked(line, loaded, rows):
    expected = load_artifact(line.good.artifact).score(line.cohort.stays.select(STAYS))
    answer = _predict(loaded, rows, {"every_step": True})
    np.testing.assert_allclose(answer["risk"], expected.risk[:, 0], atol=1e-6)
    assert answer["stay_id"].value_counts().to_dict() == {
        str(i): int(n) for i, n in enumerate(np.diff(expected.step_offsets))
    }


def test_a_row_s_score_does_not_depend_on_the_rows_beside_it(loaded, rows):
    together = _predict(loaded, rows)["risk"].to_numpy()
    alone = [_predict(loaded, rows.iloc[[i]])["risk"].item() for i in STAYS]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_the_logged_example_is_scored(line, loaded):
    answer = _predict(loaded, input_example(line.good.bundle))
    assert answer["stay_id"].tolist() == ["example"]
    assert answer["left_out"].tolist() == [0]
    assert 0.0 < answer["risk"].item() < 1.0


def test_a_stay_without_anything_has_a_score(loaded):
    answer = _predict(loaded, pd.DataFrame({"observations": ["[]"]}))
    assert answer["time_h"].tolist() == [0.0]
    assert 0.0 < answer["risk"].item() < 1.0


def test_it_loads_and_scores_where_unpickling_is_impossible(line, address, tmp_path):
    code = f"""
        import pickle, _pickle
        def refuse(*args, **kwargs):
            raise SystemExit("something was unpickled")
        import mlflow, pandas
        try:
            import cloudpickle
            cloudpickle.load = cloudpickle.loads = refuse
        except ImportError:
            pass
        class Refuser:
            __init__ = refuse
        pickle.load = pickle.loads = _pickle.load = _pickle.loads = refuse
        pickle.Unpickler = pickle._Unpickler = _pickle.Unpickler = Refuser
        model = mlflow.pyfunc.load_model({address!r})
        print("risk", model.predict(pandas.DataFrame({{"observations": ["[]"]}}))["risk"].item())
    """
    environment = {**os.environ, **line.settings.environment(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("risk 0.")


def _one(reader, **columns):
    return reader.read([{"observations": "[]", **columns}])


def _observation(**changes):
    item = {"channel": "heart_rate", "time_h": 1.0, "value": 90, "unit": "/min", **changes}
    return json.dumps([{k: v for k, v in item.items() if v != "drop"}])


def test_units_are_converted_and_values_outside_hard_limits_left_out(reader):
    stays, left_out = _one(
        reader,
        observations=json.dumps(
            [
                {"channel": "temperature", "time_h": 1, "value": 98.6, "unit": "[degF]"},
                {"channel": "heart_rate", "time_h": 1, "value": 9000, "unit": "/min"},
                {"channel": "heart_rate", "time_h": 2, "value": None, "unit": "/min"},
            ]
        ),
    )
    assert stays.value.tolist() == [pytest.approx(37.0)]
    assert left_out == [2]


def test_a_value_counts_from_when_it_was_available(reader):
    stays, _ = _one(reader, observations=_observation(available_time_h=2.5))
    assert stays.time_min.tolist() == [150]
    assert stays.end_min.tolist() == [150]


def test_what_comes_after_as_of_is_left_out(reader):
    stays, left_out = _one(
        reader, observations=_observation(time_h=5), notes='[{"time_h": 6, "text": "x"}]', as_of_h=4.0
    )
    assert (len(stays.value), len(stays.note_text), stays.end_min.tolist(), left_out) == (0, 0, [240], [2])


def test_a_channel_may_be_named_by_its_loinc_code(reader):
    stays, _ = _one(reader, observations=_observation(channel="loinc:8867-4"))
    assert stays.channels[stays.channel[0]] == "heart_rate"


@pytest.mark.parametrize(
    "columns",
    [
        {"observations": "not JSON SECRET"},
        {"observations": "{}"},
        {"observations": '["SECRET"]'},
        {"observations": _observation(channel="SECRET")},
        {"observations": _observation(channel=7)},
        {"observations": _observation(value="SECRET")},
        {"observations": _observation(value=True)},
        {"observations": '[{"channel": "heart_rate", "time_h": 1, "value": NaN, "unit": "/min"}]'},
        {"observations": _observation(time_h="SECRET")},
        {"observations": _observation(time_h=1e9)},
        {"observations": _observation(unit="drop")},
        {"observations": _observation(SECRET=1)},
        {"observations": "[]", "notes": '[{"time_h": 1, "text": ""}]'},
        {"observations": "[]", "notes": '[{"time_h": 1, "text": 5}]'},
        {"observations": "[]", "static": '{"SECRET": 1}'},
        {"observations": "[]", "static": '{"sex": "SECRET"}'},
        {"observations": "[]", "static": '{"age": 63}'},
        {"observations": "[]", "static": "[]"},
        {"observations": "[]", "as_of_h": -1.0},
    ],
)
def test_a_row_that_does_not_hold_is_refused_without_its_content(reader, columns):
    with pytest.raises(DataError, match="row 0") as error:
        reader.read([columns])
    assert "SECRET" not in str(error.value)


def test_an_unknown_unit_is_refused(reader):
    with pytest.raises(UnitError, match=r"observations\[0\]"):
        _one(reader, observations=_observation(unit="furlong"))
