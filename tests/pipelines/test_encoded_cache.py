"""Encoded stays outlive a run only whole, bounded and for their owner; damage and kills cost work, not correctness."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.cut import read_rows
from models.encoded import Encoded
from models.encoding import Encoding, EncodingConfig
from models.errors import ConfigError
from models.notes import NoteTokenizer
from models.record import from_plain
from pipelines.config import RunConfig
from pipelines.dataset import build_dataset
from pipelines.encoded_cache import GIB, CacheConfig, EncodedCache, entry_key, open_cache
from pipelines.held_folder import LOCK, PARTIAL, hold, new_held_folder, private_folder, remove_unheld
from pipelines.split import Part
from tests.pipelines.small_line import TINY
from tests.support import NOTES, small_cohort
from tests.tape_data import encoded_of, with_notes

ROOT = Path(__file__).parents[2]
FIELDS = ("features", "step_offsets", "time_min", "note_step", "note_offsets", "tokens")
KEY, OTHER = "a" * 64, "b" * 64
# A child process says that it is there, and goes on when it is told to.
CHILD = """
import sys
from pathlib import Path
import numpy as np
from models.encoded import Encoded
from pipelines.encoded_cache import EncodedCache
from pipelines.held_folder import private_folder

folder, what = Path(sys.argv[1]), sys.argv[2]

def told():
    print("there", flush=True)
    sys.stdin.readline()

def encode(file):
    np.save(file, made.features)
    if what == "dies while it writes":
        told()
    return made

features = np.arange(35, dtype=np.float32).reshape(7, 5)
made = Encoded(features, np.array([0, 3, 7]), np.array([0, 1, 2, 0, 1, 2, 3]))
if what == "trains in a private folder":
    with private_folder(folder, "encoded-") as own:
        (own / "features.npy").write_bytes(b"patient data")
        told()
else:
    with EncodedCache(folder, max_bytes=1) as cache:
        if what == "writes when told":
            told()
        found = cache.get("a" * 64, encode)
        if what == "uses it until told":
            told()
        print(float(np.asarray(found.features, dtype=np.float64).sum()), flush=True)
"""


@pytest.fixture
def children():
    """Starts child processes and ends those that are left."""
    started = []

    def start(folder, what):
        command = [sys.executable, "-c", CHILD, str(folder), what]
        child = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def wait_for(child):
    assert child.stdout.readline() == "there\n", child.communicate()[1]


def kill(child):
    child.send_signal(signal.SIGKILL)
    child.wait()


class Counting:
    """Encodes the same stays each time and counts how often it is asked."""

    def __init__(self, encoded: Encoded) -> None:
        self.encoded, self.calls = encoded, 0

    def __call__(self, file: Path) -> Encoded:
        self.calls += 1
        np.save(file, self.encoded.features)
        return self.encoded


def opened(folder, max_bytes=GIB):
    return EncodedCache(folder, max_bytes=max_bytes)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in FIELDS)


@pytest.mark.parametrize("made", [encoded_of([3, 1, 4]), with_notes(encoded_of([5, 2])), encoded_of([2], width=0)])
def test_a_second_run_finds_what_the_first_one_made(tmp_path, made):
    encode = Counting(made)
    for _ in range(2):
        with opened(tmp_path) as cache:
            found = cache.get(KEY, encode)
            assert same(found, made)
            assert np.array_equal(read_rows(found.features, 1, 2), made.features[1:2])
    assert encode.calls == 1
    assert names(tmp_path) == [KEY]


def test_features_are_mapped_and_never_held_in_memory(tmp_path):
    with opened(tmp_path) as cache:
        for _ in range(2):
            assert isinstance(cache.get(KEY, Counting(encoded_of([3]))).features, np.memmap)


def test_only_the_owner_can_read_what_is_kept(tmp_path):
    folder = tmp_path / "cache"
    with opened(folder) as cache:
        cache.get(KEY, Counting(with_notes(encoded_of([3]))))
        for path in [folder, *folder.rglob("*")]:
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_no_identifier_and_no_note_text_is_kept(tmp_path):
    cohort = small_cohort()
    config = from_plain(RunConfig, TINY, where="config")
    with opened(tmp_path / "cache") as cache:
        build_dataset(cohort, config, tmp_path, say=lambda _: None, cache=cache)
    kept = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    marked = [*cohort.stays.stay_id, *cohort.patient_id, *(text for text in cohort.stays.note_text if text)]
    assert not [text for text in marked if text.encode() in kept]


DAMAGE = {
    "a flipped bit": lambda entry: _flip(entry / "features.npy"),
    "a cut file": lambda entry: os.truncate(entry / "features.npy", 100),
    "a missing file": lambda entry: (entry / "time_min.npy").unlink(),
    "one more file": lambda entry: (entry / "more.npy").touch() or _claim(entry, "more.npy"),
    "no manifest": lambda entry: (entry / "entry.json").unlink(),
    "a manifest of another schema": lambda entry: _edit(entry, schema=0),
    "a manifest of another entry": lambda entry: _edit(entry, key=OTHER),
    "a manifest that is no JSON": lambda entry: (entry / "entry.json").write_text("{"),
    "no lock file": lambda entry: (entry / LOCK).unlink(),
    "nothing in it": lambda entry: shutil.rmtree(entry) or entry.mkdir(),
}


def _flip(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def _edit(entry, **changes):
    manifest = json.loads((entry / "entry.json").read_text())
    (entry / "entry.json").write_text(json.dumps(manifest | changes))


def _claim(entry, name):
    manifest = json.loads((entry / "entry.json").read_text())
    _edit(entry, files=manifest["files"] | {name: "0" * 64})


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_made_again(tmp_path, damage):
    encode = Counting(with_notes(encoded_of([3, 4])))
    with opened(tmp_path) as cache:
        cache.get(KEY, encode)
    DAMAGE[damage](tmp_path / KEY)
    for _ in range(2):
        with opened(tmp_path) as cache:
            assert same(cache.get(KEY, encode), encode.encoded)
    assert encode.calls == 2
    assert names(tmp_path) == [KEY]


def test_the_least_recently_used_entries_go_when_the_bound_is_reached(tmp_path):
    made = Counting(encoded_of([50]))
    with opened(tmp_path) as cache:
        for number in range(4):
            cache.get(f"{number}" * 64, made)
    size = sum(f.stat().st_size for f in (tmp_path / ("0" * 64)).iterdir())
    for number in range(4):
        os.utime(tmp_path / (f"{number}" * 64) / "entry.json", (number, number))
    with opened(tmp_path, max_bytes=2 * size) as cache:
        cache.get("1" * 64, made)
        assert len(cache.entries()) == 4
    assert names(tmp_path) == ["1" * 64, "3" * 64]
    assert made.calls == 4


def test_an_entry_beyond_the_bound_serves_its_run_and_goes_with_it(tmp_path):
    made = Counting(encoded_of([50]))
    with opened(tmp_path, max_bytes=10) as cache:
        assert same(cache.get(KEY, made), made.encoded)
    assert names(tmp_path) == []


def test_what_fails_while_it_encodes_leaves_nothing(tmp_path):
    def fail(file):
        file.write_bytes(b"half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError), opened(tmp_path) as cache:
        cache.get(KEY, fail)
    assert names(tmp_path) == []


def test_a_process_that_is_killed_while_it_writes_leaves_no_entry_and_its_remains_are_removed(tmp_path, children):
    child = children(tmp_path, "dies while it writes")
    wait_for(child)
    with opened(tmp_path):  # it is alive: what it writes stays
        assert len(names(tmp_path)) == 1
    kill(child)
    assert names(tmp_path)[0].startswith(PARTIAL)
    made = Counting(encoded_of([3, 4], seed=7))
    with opened(tmp_path) as cache:
        assert names(tmp_path) == []
        assert same(cache.get(KEY, made), made.encoded)


def test_processes_that_make_one_entry_at_once_all_get_it_whole(tmp_path, children):
    started = [children(tmp_path, "writes when told") for _ in range(3)]
    for child in started:
        wait_for(child)
    for child in started:
        child.stdin.write("\n")
        child.stdin.flush()
    results = [child.communicate() for child in started]
    assert [child.returncode for child in started] == [0] * 3, results
    assert [float(out) for out, _ in results] == [float(sum(range(35)))] * 3
    assert names(tmp_path) == []  # the bound is a byte


def test_an_entry_that_another_process_uses_is_not_removed(tmp_path, children):
    child = children(tmp_path, "uses it until told")
    wait_for(child)
    with opened(tmp_path, max_bytes=1):
        pass
    assert not remove_unheld(tmp_path / KEY)
    assert names(tmp_path) == [KEY]
    _flip(tmp_path / KEY / "features.npy")
    made = Counting(encoded_of([3, 4], seed=7))
    with opened(tmp_path) as cache:  # damaged and in use: this run makes its own copy
        assert same(cache.get(KEY, made), made.encoded)
    assert names(tmp_path) == [KEY]
    kill(child)
    with opened(tmp_path, max_bytes=1):
        pass
    assert names(tmp_path) == []


def test_a_private_folder_ends_with_its_run_and_a_killed_runs_goes_with_the_next(tmp_path, children):
    child = children(tmp_path, "trains in a private folder")
    wait_for(child)
    (left,) = tmp_path.iterdir()
    with private_folder(tmp_path, "encoded-") as own:  # the other run is alive
        assert left.is_dir()
        assert stat.S_IMODE(own.stat().st_mode) == 0o700
    kill(child)
    (tmp_path / "encoded-of-an-earlier-release").mkdir()
    (tmp_path / "checkpoints").mkdir()
    assert left.is_dir()
    with private_folder(tmp_path, "encoded-") as own:
        assert names(tmp_path) == ["checkpoints", own.name]
    assert names(tmp_path) == ["checkpoints"]


def test_a_held_folder_is_there_until_it_is_released(tmp_path):
    held = new_held_folder(tmp_path, PARTIAL)
    assert not remove_unheld(held.path)
    assert held.move(tmp_path / "kept")
    again = hold(tmp_path / "kept")
    held.release()
    assert not remove_unheld(tmp_path / "kept")
    again.release()
    assert remove_unheld(tmp_path / "kept")
    assert hold(tmp_path / "kept") is None


def test_the_key_names_everything_that_decides_the_features(tmp_path):
    cohort = small_cohort()
    stays, patients = cohort.stays, [cohort.patient_id[i] for i in cohort.stays.stay_of_note()]
    encoding = Encoding.fit(stays, EncodingConfig(), statics=cohort.statics)
    tokenizer = NoteTokenizer.train(list(stays.note_text), patients, NOTES)
    half = Encoding.fit(stays.select(np.arange(30)), EncodingConfig(), statics=cohort.statics)
    index = np.arange(10)
    keys = [
        entry_key(cohort.fingerprint, index, encoding, None),
        entry_key(cohort.fingerprint + "x", index, encoding, None),
        entry_key(cohort.fingerprint, index[::-1], encoding, None),
        entry_key(cohort.fingerprint, index[:9], encoding, None),
        entry_key(cohort.fingerprint, index, replace(encoding, clip=5.0), None),
        entry_key(cohort.fingerprint, index, half, None),
        entry_key(cohort.fingerprint, index, encoding, tokenizer),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == entry_key(cohort.fingerprint, index.astype(np.int32), encoding, None)


@pytest.mark.parametrize(
    ("changes", "hits"),
    [
        ({}, True),
        ({"training": TINY["training"] | {"max_epochs": 9}, "seed": 5}, True),
        ({"encoding": TINY["encoding"] | {"width_h": 12.0}}, False),
        ({"split": TINY["split"] | {"key": "u"}}, False),
        ({"notes": {"enabled": False}}, False),
    ],
)
def test_a_dataset_is_the_same_with_the_cache_and_made_anew_only_where_its_features_change(tmp_path, changes, hits):
    cohort = small_cohort(200)
    plain = build_of(cohort, {}, tmp_path / "plain", None)
    with opened(tmp_path / "cache") as cache:
        filled = build_of(cohort, {}, tmp_path / "filled", cache)
        before = set(names(tmp_path / "cache"))
    with opened(tmp_path / "cache") as cache:
        build_of(cohort, changes, tmp_path / "again", cache)
        assert (set(names(tmp_path / "cache")) == before) is hits
        again = build_of(cohort, {}, tmp_path / "third", cache)
        for part in Part:
            assert same(plain.parts[part].encoded, filled.parts[part].encoded)
            assert same(plain.parts[part].encoded, again.parts[part].encoded)
            assert again.parts[part].encoded.layout == plain.parts[part].encoded.layout
    assert not list((tmp_path / "third").iterdir())


def build_of(cohort, changes, folder, cache):
    folder.mkdir()
    config = from_plain(RunConfig, TINY | changes, where="config")
    return build_dataset(cohort, config, folder, say=lambda _: None, cache=cache)


def test_a_site_that_keeps_no_features_gets_no_cache(tmp_path):
    with open_cache(tmp_path / "cache", CacheConfig(enabled=False)) as cache:
        assert cache is None
    with open_cache(None, CacheConfig()) as cache:
        assert cache is None
    assert names(tmp_path) == []
    with open_cache(tmp_path / "cache", CacheConfig(max_gib=2.0)) as cache:
        assert cache.max_bytes == 2.0 * GIB


@pytest.mark.parametrize("bound", [0.0, -1.0, float("inf"), float("nan")])
def test_a_bound_that_bounds_nothing_is_refused(bound):
    with pytest.raises(ConfigError, match=r"cache\.max_gib must be above 0"):
        CacheConfig(max_gib=bound)
