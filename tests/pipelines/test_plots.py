"""Figures: right numbers drawn, disclaimer on each, no identifier anywhere, every kind of task."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_curve

from models.disclaimer import DISCLAIMER_EN
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines import plots
from pipelines.scores import StepScores

TASK = TaskSpec("death")


def scores(stays=200, seed=0):
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1, 1.5, size=stays * 3)[:, None]
    label = np.repeat((rng.random(stays) < 1 / (1 + np.exp(-logit[2::3, 0]))).astype(float), 3)[:, None]
    names = tuple(f"secret-{i}" for i in range(stays))
    time_min = np.tile([60, 400, 900], stays)
    return StepScores(names, names, np.arange(stays + 1) * 3, time_min, logit, 1 / (1 + np.exp(-logit)), label)


def texts(figure):
    return " ".join(t.get_text() for t in figure.findobj(Text))


def every_figure():
    yield from plots.evaluation_figures({"network": scores(), "lightgbm": scores(seed=1)}, TASK).values()
    yield plots.gradient_norm_figure({"h": np.geomspace(1e-6, 1, 40).reshape(2, 20), "c": np.zeros((2, 20))})
    yield plots.hidden_state_figure(np.tanh(np.random.default_rng(0).normal(size=(2, 30, 8))), np.arange(30) * 60)
    yield plots.training_figure([{"epoch": 0.0, "train_loss": 1.0, "auroc": 0.5}, {"epoch": 1.0, "train_loss": 0.5}])


def test_every_figure_becomes_a_png_that_carries_the_disclaimer_and_no_identifier(tmp_path):
    for number, figure in enumerate(every_figure()):
        path = plots.save_figure(figure, tmp_path / f"{number}.png")
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 5000
        assert b"secret-" not in content
        assert DISCLAIMER_EN.split(".")[0] in texts(figure)
        assert "secret-" not in texts(figure)


def test_the_roc_curve_is_scikit_learns():
    label, risk = plots.judged(scores(), TASK)
    axes = plots.roc_figure({"network": (label, risk)}).axes[0]
    x, y = axes.lines[1].get_data()
    expected_x, expected_y, _ = roc_curve(label, risk, drop_intermediate=False)
    assert np.allclose(x, expected_x)
    assert np.allclose(y, expected_y)


def test_calibration_points_are_scikit_learns_tenths():
    label, risk = plots.judged(scores(), TASK)
    mean, observed, rows = plots.calibration_points(label, risk)
    expected, expected_mean = calibration_curve(label, risk, n_bins=10, strategy="quantile")
    assert np.allclose(mean, expected_mean)
    assert np.allclose(observed, expected)
    assert rows.sum() == 200


def test_calibration_is_drawn_at_the_hours_that_stays_reach():
    figure = plots.evaluation_figures({"network": scores()}, TASK, hours=(6, 12, 48))["calibration"]
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["6 h", "12 h", "end of stay"]


def test_wilsons_interval_is_the_published_example():
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263 gives 0.2553 to 0.3662.
    low, high = plots.wilson_interval(np.array([81 / 263]), np.array([263.0]), z=1.959964)
    assert (round(low[0], 4), round(high[0], 4)) == (0.2553, 0.3662)


def test_step_tasks_several_classes_and_numbers_have_figures_too(tmp_path):
    base = scores()
    step = TaskSpec("death", scope=LabelScope.STEP)
    assert "all time steps" in texts(plots.evaluation_figures({"network": base}, step)["calibration"])
    classes = TaskSpec("death", kind=TargetKind.MULTICLASS, classes=("no", "yes"))
    both = StepScores(
        base.stay_id,
        base.patient_id,
        base.step_offsets,
        base.time_min,
        np.hstack([-base.logit, base.logit]),
        np.hstack([1 - base.risk, base.risk]),
        base.label,
    )
    assert np.array_equal(plots.judged(both, classes, 1)[0], plots.judged(base, TASK)[0])
    assert set(plots.evaluation_figures({"network": both}, classes, output=1)) == {
        "roc",
        "precision_recall",
        "calibration",
        "score_histogram",
    }
    days = TaskSpec("days", kind=TargetKind.REGRESSION, unit="d")
    figure = plots.evaluation_figures({"network": base}, days)["predicted_and_observed"]
    assert "predicted (d)" in texts(figure)
    assert plots.save_figure(figure, tmp_path / "days.png").exists()


def test_gradient_norms_of_zero_leave_a_gap_and_first_and_last_epoch_are_drawn():
    table = np.abs(np.random.default_rng(1).normal(size=(5, 2, 10)))
    table[:, :, -1] = 0.0
    axes = plots.gradient_norm_figure({"h": table}).axes[0]
    assert axes.get_yscale() == "log"
    assert len(axes.lines) == 4
    assert np.isnan(axes.lines[0].get_ydata()[-1])
    assert np.allclose(axes.lines[-1].get_ydata()[:-1], table[4, 1, :-1])


def test_the_hidden_state_has_a_panel_a_layer_on_one_scale():
    states = np.random.default_rng(2).normal(size=(3, 12, 5))
    figure = plots.hidden_state_figure(states, np.arange(12) * 90)
    images = [image for axes in figure.axes for image in axes.images]
    assert len(images) == 3
    assert {image.get_clim() for image in images} == {(-np.abs(states).max(), np.abs(states).max())}
    assert np.array_equal(images[1].get_array(), states[1].T)


@pytest.mark.parametrize("history", [[], [{"epoch": 0.0}]])
def test_an_empty_history_is_an_empty_figure(history):
    assert isinstance(plots.training_figure(history), Figure)
