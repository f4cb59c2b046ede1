import numpy as np
import pytest

from models.encoding import Encoding, EncodingConfig
from models.folding import fold
from models.grid import GridKind


@pytest.fixture(scope="module")
def cohort(data_dir):
    challenge2012 = pytest.importorskip("pipelines.sources.challenge2012", reason="reads the open data")
    return challenge2012.read([data_dir / "challenge2012" / "set-b.tar.xz"])


@pytest.mark.parametrize("kind", list(GridKind))
def test_real_stays_stepped_equal_the_same_stays_encoded_at_once(cohort, kind):
    lengths = np.diff(cohort.stays.offsets)
    # The shortest are stays without any observation; the longest have the most at one minute.
    chosen = np.concatenate([np.argsort(lengths)[:5], np.argsort(lengths)[-5:], np.arange(10)])
    encoding = Encoding.fit(cohort.stays.select(np.arange(500)), EncodingConfig(grid=kind), statics=cohort.statics)
    together = encoding.encode(cohort.stays.select(chosen), dtype=np.float64)
    for place, stay in enumerate(chosen.tolist()):
        stepped = fold(encoding, cohort.stays.select([stay]))
        whole = together.select([place])
        assert stepped.time_min.tolist() == whole.time_min.tolist()
        np.testing.assert_allclose(stepped.features, whole.features, rtol=0, atol=1e-10)
