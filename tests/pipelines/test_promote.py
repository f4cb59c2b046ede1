"""Promotion moves the champion only through the gate; a rollback asks for digests and golden scores alone."""

import json
from dataclasses import replace

import pytest

from models.errors import DataError, RefusedError
from pipelines.cli import main
from pipelines.cohort import write_cohort
from pipelines.gate import GateRefusedError
from pipelines.lease import LeaseLostError
from pipelines.promote import Evidence, promote, rollback
from pipelines.registry import version_at
from pipelines.sources.simulator import simulate
from pipelines.tracking import connect, mlflow, quiet


def _holder(line, name, alias="champion"):
    found = version_at(connect(line.settings), name, alias=alias)
    return found.version if found else None


def test_the_first_version_needs_the_other_checks_alone(line, register):
    number = register("first", line.good)
    verdict = promote("first", number, settings=line.settings)
    assert verdict.champion is None
    assert {c.name for c in verdict.checks} == {
        "artifact",
        "events",
        "in_hospital_death/calibration_slope",
        "in_hospital_death/calibration_intercept",
    }
    assert _holder(line, "first") == number


def test_a_version_as_good_as_the_champion_takes_its_place(line, register):
    one, two = register("equal", line.good), register("equal", line.good)
    promote("equal", one, settings=line.settings)
    verdict = promote("equal", two, settings=line.settings)
    assert verdict.passed
    assert verdict.champion == f"models:/equal/{one}"
    assert "in_hospital_death/auroc_difference_low" in {c.name for c in verdict.checks}
    assert (_holder(line, "equal"), _holder(line, "equal", "previous")) == (two, one)


def test_a_worse_version_stays_challenger_and_mlflow_says_why(line, register):
    one, two = register("worse", line.good), register("worse", line.weak)
    promote("worse", one, settings=line.settings)
    with pytest.raises(GateRefusedError) as refused:
        promote("worse", two, settings=line.settings)
    failed = {c.name for c in refused.value.verdict.checks if not c.passed}
    assert "in_hospital_death/auroc_difference_low" in failed
    assert (_holder(line, "worse"), _holder(line, "worse", "challenger")) == (one, two)
    client = connect(line.settings)
    version = client.get_model_version("worse", str(two))
    assert version.tags["sequela.gate"] == "refused"
    assert "auroc_difference_low" in version.tags["sequela.gate_summary"]
    run = client.get_run(version.run_id)
    assert run.data.tags["sequela.gate"] == "refused"
    assert run.data.metrics["gate/events"] == line.weak.metrics["events"]
    with quiet():
        stored = json.loads(mlflow.artifacts.load_text(f"runs:/{version.run_id}/gate.json"))
    assert stored == refused.value.verdict.to_plain()


def test_the_gate_is_the_version_s_own_unless_another_is_given(line, register):
    number = register("strict", line.good)
    stricter = replace(line.config.retrain.gate, min_events=1000)
    with pytest.raises(GateRefusedError, match=r"events .* \(at least 1000\)"):
        promote("strict", number, settings=line.settings, evidence=Evidence(gate=stricter))
    assert _holder(line, "strict") is None
    verdict = promote("strict", number, settings=line.settings)
    assert next(c for c in verdict.checks if c.name == "events").bound == "at least 10"


def test_scores_at_hand_give_the_verdict_that_scoring_again_gives(line, register):
    number = register("twice", line.good)
    at_hand = promote("twice", number, settings=line.settings, evidence=Evidence(scores=line.good.scores))
    again = promote("twice", number, settings=line.settings)
    for one, two in zip(at_hand.checks, again.checks, strict=True):
        assert one.name == two.name
        assert one.value == pytest.approx(two.value, abs=1e-4)


def test_without_its_cohort_a_version_is_not_promoted(line, register, tmp_path):
    number = register("homeless", line.good, cohorts=[tmp_path / "gone"])
    with pytest.raises(RefusedError, match="--cohort"):
        promote("homeless", number, settings=line.settings)
    verdict = promote("homeless", number, settings=line.settings, evidence=Evidence(folders=[line.cohort_folder]))
    assert verdict.passed


def test_another_cohort_than_the_version_s_own_is_refused(line, register, tmp_path):
    number = register("mistaken", line.good)
    write_cohort(simulate(stays=60, seed=2), tmp_path / "other")
    with pytest.raises(DataError, match="fingerprint"):
        promote("mistaken", number, settings=line.settings, evidence=Evidence(folders=[tmp_path / "other"]))


def test_a_lost_lease_stops_the_alias_from_moving(line, register):
    number = register("fenced", line.good)

    def lost():
        raise LeaseLostError("lease must be held, got none; start again")

    with pytest.raises(LeaseLostError):
        promote("fenced", number, settings=line.settings, before_move=lost)
    assert _holder(line, "fenced") is None


def test_an_alias_that_moves_during_the_gate_is_not_moved_again(line, register, monkeypatch):
    one, two, three = (register("raced", line.good) for _ in range(3))
    promote("raced", one, settings=line.settings)
    client = connect(line.settings)
    from pipelines import promote as module

    def judged_while_another_moves(*args):
        client.set_registered_model_alias("raced", "champion", str(three))
        return judge(*args)

    judge = module.judge
    monkeypatch.setattr(module, "judge", judged_while_another_moves)
    with pytest.raises(RefusedError, match="another holder"):
        promote("raced", two, settings=line.settings)
    assert _holder(line, "raced") == three


def test_a_rollback_needs_no_data_and_returns_to_the_version_before(line, register, tmp_path):
    one, two = register("back", line.good), register("back", line.good)
    for number in (one, two):
        promote("back", number, settings=line.settings)
    restored, left = rollback("back", settings=line.settings)
    assert (restored.version, left.version) == (one, two)
    assert _holder(line, "back") == one
    with pytest.raises(RefusedError, match="got none"):
        rollback("back", settings=line.settings)


def test_a_rollback_to_a_version_whose_golden_scores_do_not_hold_is_refused(line, register, monkeypatch):
    one, two = register("unsound", line.good), register("unsound", line.good)
    for number in (one, two):
        promote("unsound", number, settings=line.settings)
    from models import golden

    monkeypatch.setattr(golden, "TOLERANCE", -1.0)
    with pytest.raises(RefusedError, match="golden"):
        rollback("unsound", settings=line.settings)
    assert _holder(line, "unsound") == two


@pytest.fixture
def environment(line, monkeypatch):
    for name, value in line.settings.environment().items():
        monkeypatch.setenv(name, value)


def test_the_commands_print_one_object_and_say_by_their_status_what_happened(line, register, environment, capsys):
    one, two, three = register("spoken", line.good), register("spoken", line.weak), register("spoken", line.good)
    assert main(["promote", "spoken", str(one), "--json"]) == 0
    passed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert passed["gate"]["passed"] is True
    assert passed["alias"] == "champion"
    assert passed["disclaimer"]
    assert main(["promote", "spoken", str(two), "--json"]) == 1
    refused = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert refused["alias"] is None
    assert not all(c["passed"] for c in refused["gate"]["checks"])
    assert main(["promote", "spoken", str(three)]) == 0
    assert "holds" in capsys.readouterr().out
    assert main(["rollback", "spoken", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["model"] == f"models:/spoken/{one}"
    assert main(["promote", "spoken", "99"]) == 1
    assert "registered version" in capsys.readouterr().err
