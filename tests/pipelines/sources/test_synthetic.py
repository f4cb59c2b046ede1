from pathlib import Path

import pytest

from models.errors import ConfigError
from pipelines.prepare import prepare
from pipelines.sources.simulator import Language, simulate
from pipelines.sources.synthetic import read


def test_options_given_as_text_reach_the_simulator():
    options = {"stays": "12", "seed": "4", "language": "ja", "mean_hours": "20"}
    assert read(options=options).fingerprint == simulate(12, 4, Language.JAPANESE, 20.0).fingerprint


def test_one_length_reaches_the_simulator():
    assert read(options={"stays": 2, "hours": "30"}).stays.end_min.tolist() == [1800, 1800]


def test_prepare_writes_a_synthetic_cohort(tmp_path):
    cohort = prepare("synthetic", [], out=tmp_path / "cohort", options={"stays": "5"})
    assert (tmp_path / "cohort").is_dir()
    assert cohort.report.stays == 5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"language": "fr"}, "language must be one of en, ja, both"),
        ({"stays": "many"}, "stays must be a whole number"),
        ({"stays": "2.5"}, "stays must be a whole number"),
        ({"hours": "nan"}, "hours must be a number"),
        ({"seeds": "1"}, "got seeds; rename or drop them"),
    ],
)
def test_options_that_do_not_hold_are_refused(options, expected):
    with pytest.raises(ConfigError, match=expected):
        read(options=options)


def test_a_path_is_refused():
    with pytest.raises(ConfigError, match="paths must be empty"):
        read([Path("x")])
