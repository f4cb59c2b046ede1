"""Boosted trees score a row by that row alone, and a text that is none is refused before LightGBM reads it."""

from __future__ import annotations

import copy
import subprocess
import sys

import lightgbm
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batch import Chunk
from models.errors import ArtifactError
from models.task import LabelScope, TargetKind, TaskSpec
from models.tree_library import library
from models.tree_text import check_tree_text
from models.trees import TreeMember
from tests.support import small_trees, tree_texts

TASKS = {
    "binary": TaskSpec("death"),
    "horizons": TaskSpec("death", scope=LabelScope.STEP, horizons_h=(6.0, 12.0)),
    "multiclass": TaskSpec("discharge", kind=TargetKind.MULTICLASS, classes=("home", "ward", "died")),
    "regression": TaskSpec("days", kind=TargetKind.REGRESSION),
}
FEATURES = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
TEXT = tree_texts(FEATURES, TASKS["binary"])[0]


def chunk_of(features: np.ndarray, lengths: list[int]) -> Chunk:
    batch, time, _ = features.shape
    valid = torch.arange(time)[None] < torch.tensor(lengths)[:, None]
    return Chunk(torch.from_numpy(features), valid, torch.ones(batch, dtype=torch.bool))


@pytest.mark.parametrize("kind", TASKS)
def test_logits_are_lightgbms_raw_scores(kind: str) -> None:
    task = TASKS[kind]
    raw = [
        np.asarray(lightgbm.Booster(model_str=text).predict(FEATURES, raw_score=True)).reshape(len(FEATURES), -1)
        for text in tree_texts(FEATURES, task)
    ]
    trees = small_trees(FEATURES, task)
    logits, state = trees(chunk_of(FEATURES.reshape(10, 30, 6), [30] * 10), trees.initial_state(10))
    np.testing.assert_array_equal(logits.reshape(300, -1).numpy(), np.concatenate(raw, axis=1))
    assert logits.dtype is torch.float64
    assert state.names == ()


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.integers(0, 299), min_size=1, max_size=40))
def test_a_rows_logit_does_not_depend_on_other_rows_or_their_number(rows: list[int]) -> None:
    trees = small_trees(FEATURES, TASKS["binary"])
    whole = trees.predict(FEATURES)
    np.testing.assert_array_equal(trees.predict(FEATURES[rows]), whole[rows])


def test_features_in_double_precision_fall_on_the_same_side_of_a_split() -> None:
    trees = small_trees(FEATURES, TASKS["binary"])
    batch = FEATURES.reshape(10, 30, 6)
    single, double = (trees(chunk_of(b, [30] * 10), trees.initial_state(10))[0] for b in (batch, batch.astype(float)))
    assert torch.equal(single, double)


def test_padding_has_no_logit() -> None:
    trees = small_trees(FEATURES, TASKS["horizons"])
    logits, _ = trees(chunk_of(FEATURES[:20].reshape(2, 10, 6), [10, 4]), trees.initial_state(2))
    assert not logits[1, 4:].any()
    assert logits[0].abs().min() > 0
    assert trees(chunk_of(FEATURES[:4].reshape(1, 4, 6), [0]), trees.initial_state(1))[0].shape == (1, 4, 2)


def test_without_lightgbm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    library.cache_clear()
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(ArtifactError, match=r"pip install 'sequela\[trees\]'"):
        TreeMember([TEXT], width=6, outputs=1)


def test_trees_of_other_features_or_outputs_are_refused() -> None:
    with pytest.raises(ArtifactError, match="must give 2 outputs of 6 features"):
        TreeMember([TEXT], width=6, outputs=2)
    with pytest.raises(ArtifactError, match="must give 1 outputs of 7 features"):
        TreeMember([TEXT], width=7, outputs=1)


@pytest.mark.parametrize("text", ["", "nonsense", "\nTree=0\n", TEXT.replace("tree_sizes=", "sizes=")])
def test_a_text_that_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="must be LightGBM's text of whole numeric trees"):
        TreeMember([text], width=6, outputs=1)


@settings(max_examples=60, deadline=None)
@given(keep=st.integers(0, TEXT.index("end of trees")))
def test_a_cut_text_is_refused_before_lightgbm_reads_it(keep: int) -> None:
    with pytest.raises(ArtifactError, match="whole numeric trees"):
        check_tree_text(TEXT[:keep], width=6)


def altered(name: str, place: int, value: str) -> str:
    """The text with one number of the first tree changed to another of the same length, so that sizes still hold."""
    begin = TEXT.index(f"\n{name}=", TEXT.index("Tree=0")) + len(name) + 2
    line = TEXT[begin : TEXT.index("\n", begin)]
    values = line.split(" ")
    values[place] = value.rjust(len(values[place]), "0")[: len(values[place])]
    return TEXT[:begin] + " ".join(values).ljust(len(line))[: len(line)] + TEXT[begin + len(line) :]


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("split_feature", 0, "9"),
        ("left_child", 0, "9"),
        ("right_child", 0, "0"),
        ("decision_type", 1, "1"),
        ("num_cat", 0, "1"),
        ("num_leaves", 0, "8"),
        ("num_leaves", 0, "0"),
        ("leaf_value", 2, "x"),
    ],
)
def test_a_tree_that_leads_nowhere_is_refused(name: str, place: int, value: str) -> None:
    check_tree_text(TEXT, width=6)
    changed = altered(name, place, value)
    assert changed != TEXT
    assert len(changed) == len(TEXT)
    with pytest.raises(ArtifactError, match="at tree 0"):
        check_tree_text(changed, width=6)


def test_a_tree_of_one_leaf_is_whole() -> None:
    flat = lightgbm.train(
        {"objective": "binary", "verbosity": -1, "min_data_in_leaf": 200, "num_threads": 1},
        lightgbm.Dataset(FEATURES, (FEATURES[:, 0] > 0) * 1.0),
        num_boost_round=2,
    )
    trees = TreeMember([flat.model_to_string()], width=6, outputs=1)
    np.testing.assert_array_equal(trees.predict(FEATURES)[:, 0], flat.predict(FEATURES, raw_score=True))


def test_a_copy_scores_as_the_original() -> None:
    trees = small_trees(FEATURES, TASKS["horizons"])
    np.testing.assert_array_equal(copy.deepcopy(trees).predict(FEATURES), trees.predict(FEATURES))


def test_scoring_loads_neither_the_package_nor_what_it_needs_for_training() -> None:
    asked = (
        "import sys; from models.trees import TreeMember; TreeMember([sys.stdin.read()], width=6, outputs=1); "
        "print([name for name in ('lightgbm', 'pandas', 'scipy', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", asked], input=TEXT, text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "[]"
