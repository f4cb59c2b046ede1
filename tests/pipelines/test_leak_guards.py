"""Each leak guard holds for an honest run, and each catches a run in which the leak is really there."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.bundle import Bundle
from models.calibration import Calibration
from models.channels import StaticKind, StaticVariable
from models.encoding import Encoding
from models.ensemble import Ensemble, network_members
from models.errors import RefusedError
from models.forward import score_logits
from models.network import NetworkConfig, RecurrentNetwork
from models.notes import NoteTokenizer
from models.record import from_plain
from models.scorer import Scorer
from models.task import LabelScope
from pipelines import dataset, leak_guards_data, part_data
from pipelines.cohort import Cohort, make_cohort
from pipelines.config import RunConfig
from pipelines.dataset import build_dataset, fit_features
from pipelines.labels import outcomes_of
from pipelines.leak_finding import LeakError
from pipelines.leak_guards import (
    Fitted,
    check_data,
    check_model,
    check_record,
    check_refit,
    records,
)
from pipelines.leak_guards_data import check_features, check_patients, check_statistics
from pipelines.leak_guards_future import check_future
from pipelines.leak_guards_labels import FEWEST, check_labels, is_copy
from pipelines.part_data import Dataset
from pipelines.sources.simulator import simulate
from pipelines.split import Part
from tests.pipelines.small_line import TINY

NETWORK = NetworkConfig(hidden_size=6)


@dataclass(frozen=True)
class Run:
    """What a training run has made before it saves; nothing of it may be changed."""

    cohort: Cohort
    config: RunConfig
    data: Dataset

    def scorer(self, *networks: RecurrentNetwork, encoding: Encoding | None = None) -> Scorer:
        bundle = Bundle(
            name="guarded",
            task=self.config.task,
            channels=self.cohort.channels,
            statics=self.cohort.statics,
            encoding=encoding or self.data.encoding,
            members=network_members(*(network.config for network in networks)),
            notes=self.config.notes,
            calibration=self.calibrate(Part.CALIBRATION, networks[0]),
        )
        return Scorer(bundle, Ensemble(networks), self.data.tokenizer)

    def network(self, config: NetworkConfig = NETWORK, kind: type[RecurrentNetwork] = RecurrentNetwork):
        torch.manual_seed(0)
        return kind(
            config,
            width=self.data.encoding.width,
            outputs=1,
            notes=self.config.notes,
            vocabulary_size=self.data.tokenizer.vocabulary_size,
        )

    def calibrate(self, name: Part, network: RecurrentNetwork) -> Calibration:
        part = self.data.parts[name]
        return Calibration.fit(
            score_logits(network, part.encoded).astype(np.float64),
            part.label,
            time_h=part.encoded.time_min / 60.0,
            stay_index=np.repeat(np.arange(len(part.encoded)), part.encoded.lengths),
            kind=self.config.task.kind,
            scope=LabelScope.STAY,
        )


def silent(_: str) -> None:
    """Says nothing."""


def config_of(**tables) -> RunConfig:
    notes = {"notes": TINY["notes"] | {"vocabulary_size": 1200}}
    return from_plain(RunConfig, TINY | notes | tables, where="config")


def run_of(cohort, folder, config=None) -> Run:
    config = config or config_of()
    data = build_dataset(cohort, config, folder, say=silent)
    data.saw("network", data.parts[Part.TRAIN])
    data.saw("calibration", data.parts[Part.CALIBRATION])
    return Run(cohort, config, data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_of(simulate(stays=500, seed=4, mean_hours=24.0), tmp_path_factory.mktemp("encoded"))


@pytest.fixture(scope="module")
def event_run(tmp_path_factory):
    """A time step per distinct minute, so that a later row may make a step."""
    config = config_of(encoding={"grid": "event", "features": ["value", "mask", "gap", "mean", "trend"]})
    return run_of(simulate(stays=300, seed=6, mean_hours=12.0), tmp_path_factory.mktemp("encoded"), config)


def caught(guard, *wanted):
    """Expects this guard's refusal, in words that hold what is wanted and no stay or patient."""
    return pytest.raises(LeakError, match=rf"leak guard '{guard}' must find .*" + ".*".join(wanted))


def test_an_honest_run_passes_every_guard_and_says_what_was_looked_at(run):
    network = run.network()
    calibration = Fitted(
        run.calibrate(Part.CALIBRATION, network), lambda part: run.calibrate(name_of(run, part), network)
    )
    findings = check_data(run.cohort, run.config, run.data)
    findings += check_model(
        run.cohort,
        run.config,
        run.data,
        run.scorer(network),
        fitted={"calibration": calibration},
        known=np.ones((1, 1), dtype=bool),
    )
    names = [entry["name"] for entry in records(findings)]
    assert names == ["patients", "statistics", "features", "labels", "record", "calibration", "future"]
    assert all(entry["passed"] is True and entry["detail"] for entry in records(findings))
    told = " ".join(entry["detail"] for entry in records(findings))
    assert not any(name in told for name in (*run.cohort.patient_id, *run.cohort.stays.stay_id))


def name_of(run, part):
    return next(name for name, own in run.data.parts.items() if own is part)


def test_a_leak_is_a_refusal_that_names_its_guard(run):
    error = LeakError("future", expected="this", got="that", remedy="do so")
    assert isinstance(error, RefusedError)
    assert str(error) == "leak guard 'future' must find this, got that; do so"


# Patients


def test_a_split_by_stay_puts_a_patient_in_two_parts(tmp_path, monkeypatch):
    cohort = simulate(stays=300, seed=4, mean_hours=24.0)
    pairs = replace(cohort, patient_id=tuple(f"patient-{i // 2}" for i in range(len(cohort.stays))))
    honest = run_of(pairs, tmp_path)
    assert check_patients(pairs, honest.config, honest.data).passed
    split = dataset.split_patients
    monkeypatch.setattr(dataset, "split_patients", lambda ids, config: split(pairs.stays.stay_id, config))
    leaky = run_of(pairs, tmp_path)
    with caught("patients", "a patient in one part", "the .* part and another"):
        check_patients(pairs, leaky.config, leaky.data)


def test_a_stay_that_a_part_holds_twice_is_found(run):
    part = run.data.parts[Part.TRAIN]
    index = np.append(part.index, part.index[:1])
    twice = replace(
        part,
        index=index,
        stays=run.cohort.stays.select(index),
        patient_id=tuple(run.cohort.patient_id[i] for i in index),
    )
    data = replace(run.data, parts=run.data.parts | {Part.TRAIN: twice})
    with caught("patients", "each stay once", "twice in the train part"):
        check_patients(run.cohort, run.config, data)


def test_a_part_of_other_stays_than_the_splits_is_found(run):
    fewer = run.data.parts[Part.TEST]
    fewer = replace(fewer, stays=fewer.stays.select(np.arange(3)), patient_id=fewer.patient_id[:3])
    data = replace(run.data, parts=run.data.parts | {Part.TEST: fewer})
    with caught("patients", "other stays in the test part"):
        check_patients(run.cohort, run.config, data)


def test_a_patient_under_two_identifiers_is_found_by_what_the_stays_hold(run, tmp_path):
    cohort = run.cohort
    stays = cohort.stays
    index = np.concatenate([np.arange(len(stays)), run.data.parts[Part.TRAIN].index[:5]])
    again = replace(stays.select(index), stay_id=tuple(f"stay-{i}" for i in range(len(index))))
    owners = [cohort.patient_id[i] for i in range(len(stays))] + [f"other-{i}" for i in range(5)]
    twins = make_cohort(
        stays=again,
        patient_id=owners,
        outcomes=cohort.outcome_rows,
        channels=cohort.channels,
        statics=cohort.statics,
        source="test",
        licence="none",
    )
    leaky = run_of(twins, tmp_path)
    assert any(
        i >= len(stays) for part in (Part.VALIDATION, Part.CALIBRATION, Part.TEST) for i in leaky.data.parts[part].index
    )
    with caught("patients", "under another patient"):
        check_patients(twins, leaky.config, leaky.data)


def test_validation_stays_may_calibrate_only_where_the_configuration_says_so(tmp_path):
    cohort = simulate(stays=300, seed=4, mean_hours=24.0)
    both = config_of(calibration={"include_validation": True}, training=TINY["training"] | {"monitor": "last_epoch"})
    run = run_of(cohort, tmp_path, both)
    assert check_patients(cohort, both, run.data).passed
    with caught("patients", "other stays|another"):
        check_patients(cohort, config_of(), run.data)


# Statistics and vocabulary


def on_all_stays(cohort, index, config):
    return fit_features(cohort, np.arange(len(cohort.stays)), config)


def test_an_encoding_that_is_fitted_on_all_stays_is_caught(run, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "fit_features", on_all_stays)
    # The guard's own refit is as wrong, and still sees through it: it is given the training stays alone.
    monkeypatch.setattr(leak_guards_data, "fit_features", on_all_stays)
    leaky = run_of(run.cohort, tmp_path)
    with caught("statistics", "training stays"):
        check_data(leaky.cohort, leaky.config, leaky.data)
    with caught("record", "the encoding to have seen part 'train'"):
        check_record(leaky.cohort, leaky.config, leaky.data)


def test_a_tokenizer_that_is_trained_on_all_notes_is_caught(run):
    stays = run.cohort.stays
    patients = [run.cohort.patient_id[i] for i in stays.stay_of_note()]
    tokenizer = NoteTokenizer.train(list(stays.note_text), patients, run.config.notes)
    with caught("statistics", "vocabulary"):
        check_statistics(run.cohort, run.config, replace(run.data, tokenizer=tokenizer))


def test_statistics_that_depend_on_outcomes_are_caught(run, monkeypatch):
    def by_outcome(cohort, index, config):
        died = outcomes_of(cohort, config.task.outcome).value[index] > 0
        return fit_features(cohort, index[died], config)

    monkeypatch.setattr(leak_guards_data, "fit_features", by_outcome)
    data = replace(run.data, encoding=by_outcome(run.cohort, run.data.parts[Part.TRAIN].index, run.config).encoding)
    with caught("statistics", "training stays"):
        check_statistics(run.cohort, run.config, data)


# Features


def test_features_that_are_not_those_of_their_stays_are_caught(run):
    part = run.data.parts[Part.CALIBRATION]
    features = np.roll(np.array(part.encoded.features), 1, axis=0)
    other = replace(part, encoded=replace(part.encoded, features=features))
    data = replace(run.data, parts=run.data.parts | {Part.CALIBRATION: other})
    with caught("features", "the features that the part's stays give", "calibration"):
        check_features(run.cohort, run.config, data)


def test_an_outcome_that_is_written_into_a_feature_is_caught(run, monkeypatch):
    encode = leak_guards_data.encode_stays

    def with_outcome(cohort, index, fitted, out=None):
        encoded = encode(cohort, index, fitted, out)
        features = np.array(encoded.features)
        features[:, 0] += np.repeat(outcomes_of(cohort, "in_hospital_death").value[index], encoded.lengths)
        return replace(encoded, features=features)

    monkeypatch.setattr(leak_guards_data, "encode_stays", with_outcome)
    with caught("features", "do not depend on outcomes"):
        check_features(run.cohort, run.config, run.data)


# Label columns


def with_static(run, variable, values):
    """The training stays and an encoding with one more static variable."""
    part = run.data.parts[Part.TRAIN]
    stays = replace(
        part.stays,
        static=np.column_stack([part.stays.static, values]),
        static_names=(*part.stays.static_names, variable.name),
    )
    statics = (*run.cohort.statics, variable)
    return stays, Encoding.fit(stays, run.config.encoding, statics=statics)


def with_channel(run, name, stay, value):
    """The training stays and an encoding with one more channel, observed once in these stays, at their ends."""
    part = run.data.parts[Part.TRAIN]
    stays = part.stays
    owner = np.concatenate([stays.stay_of_row(), stay])
    time_min = np.concatenate([stays.time_min, stays.end_min[stay]])
    channel = np.concatenate([stays.channel, np.full(len(stay), len(stays.channels), dtype=np.int16)])
    value = np.concatenate([stays.value, value])
    order = np.lexsort((value, channel, time_min, owner))
    more = replace(
        stays,
        offsets=np.searchsorted(owner[order], np.arange(len(stays) + 1)),
        time_min=time_min[order],
        channel=channel[order],
        value=value[order],
        channels=(*stays.channels, name),
    )
    return more, Encoding.fit(more, run.config.encoding, statics=run.cohort.statics)


def outcome_in_training(run, name="in_hospital_death"):
    return outcomes_of(run.cohort, name).value[run.data.parts[Part.TRAIN].index]


def check_columns(run, stays, encoding):
    return check_labels(run.cohort.outcome_rows, run.data.parts[Part.TRAIN].index, stays, encoding)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (-3.0, 7.0)])
def test_an_outcome_in_a_static_variable_is_caught_on_any_scale(run, scale, shift):
    stays, encoding = with_static(run, StaticVariable("unit_code"), scale * outcome_in_training(run) + shift)
    with caught("labels", "static unit_code, which tells '(in_hospital_death|discharge_destination)'"):
        check_columns(run, stays, encoding)


def test_an_outcome_in_one_of_several_categories_is_caught(run):
    destination = StaticVariable("destination", StaticKind.CATEGORICAL, categories=("home", "deceased", "ward"))
    values = np.where(
        outcome_in_training(run) > 0, 1.0, np.where(np.arange(len(outcome_in_training(run))) % 2, 0.0, 2.0)
    )
    stays, encoding = with_static(run, destination, values)
    with caught("labels", "static destination = deceased"):
        check_columns(run, stays, encoding)


def test_a_number_under_another_name_is_caught_although_rounded(run):
    days = outcome_in_training(run, "length_of_stay_d")
    stays, encoding = with_static(run, StaticVariable("billing"), np.round(days * 24.0, 1))
    with caught("labels", "static billing, which tells 'length_of_stay_d'"):
        check_columns(run, stays, encoding)


def test_an_outcome_in_a_channels_values_or_in_its_presence_is_caught(run):
    died = outcome_in_training(run)
    stays, encoding = with_channel(run, "outcome_flag", np.arange(len(died)), died)
    with caught("labels", "last value of channel outcome_flag"):
        check_columns(run, stays, encoding)
    dead = np.flatnonzero(died)
    stays, encoding = with_channel(run, "post_mortem", dead, np.linspace(1.0, 2.0, len(dead)))
    with caught("labels", "presence of channel post_mortem"):
        check_columns(run, stays, encoding)


def test_a_column_with_an_outcomes_name_is_caught(run):
    stays, encoding = with_static(
        run, StaticVariable("length_of_stay_d"), np.arange(len(run.data.parts[Part.TRAIN].stays))
    )
    with caught("labels", "'length_of_stay_d', the name of an outcome"):
        check_columns(run, stays, encoding)


def test_a_column_that_is_not_read_may_hold_what_it_will(run):
    stays, _ = with_static(run, StaticVariable("unit_code"), outcome_in_training(run))
    assert check_columns(run, stays, run.data.encoding).passed


def test_few_events_are_no_proof_of_a_copy_and_one_wrong_stay_is_enough_against():
    rare = np.concatenate([np.ones(FEWEST - 1), np.zeros(50)])
    assert not is_copy(rare, rare)
    common = np.concatenate([np.ones(FEWEST), np.zeros(50)])
    assert is_copy(common, common)
    assert not is_copy(np.where(np.arange(60) == 59, 1.0, common), common)
    number = np.random.default_rng(0).normal(size=200)
    assert is_copy(np.exp(number), number)
    assert not is_copy(number + np.random.default_rng(1).normal(scale=0.1, size=200), number)


# The record and calibration


@pytest.mark.parametrize("thing", ["calibration", "thresholds", "network", "encoding"])
def test_what_is_fitted_on_the_hold_out_is_known_by_its_record(run, thing):
    data = replace(run.data, fitted_on=dict(run.data.fitted_on))
    data.saw(thing, data.parts[Part.TEST])
    with caught("record", f"the {thing} to have seen part '.*', got part 'test'"):
        check_record(run.cohort, run.config, data)


def test_a_fit_without_a_record_and_one_on_some_patients_of_a_part_are_refused(run):
    fitted_on = {thing: digest for thing, digest in run.data.fitted_on.items() if thing != "calibration"}
    with caught("record", "no record of them"):
        check_record(run.cohort, run.config, replace(run.data, fitted_on=fitted_on))
    some = replace(run.data.parts[Part.CALIBRATION], patient_id=run.data.parts[Part.CALIBRATION].patient_id[:9])
    data = replace(run.data, fitted_on=fitted_on)
    data.saw("calibration", some)
    with caught("record", "patients of no part"):
        check_record(run.cohort, run.config, data)


def test_digests_tell_patients_apart_and_name_none(run):
    digests = {name: part_data.patients_digest(part.patient_id, "k") for name, part in run.data.parts.items()}
    assert len(set(digests.values())) == len(digests)
    part = run.data.parts[Part.TEST]
    assert part_data.patients_digest(part.patient_id[::-1] * 2, "k") == digests[Part.TEST]
    assert part_data.patients_digest(part.patient_id, "other key") != digests[Part.TEST]
    assert part_data.patients_digest(["ab", "c"], "k") != part_data.patients_digest(["a", "bc"], "k")


def test_a_calibration_that_is_fitted_on_the_hold_out_is_caught_by_fitting_it_again(run):
    network = run.network()

    def fit(part):
        return run.calibrate(name_of(run, part), network)

    assert check_refit("calibration", Fitted(fit(run.data.parts[Part.CALIBRATION]), fit), run.data).passed
    with caught("calibration", "that the stays to calibrate on give"):
        check_refit("calibration", Fitted(fit(run.data.parts[Part.TEST]), fit), run.data)


# The future


class SecretlyBidirectional(RecurrentNetwork):
    """Reads each stay from its end and declares that it does not."""

    streams = True

    def begin(self, chunk, state):
        return state


class Centred(Encoding):
    """Subtracts each stay's mean feature, which knows the whole stay."""

    def encode(self, stays, **options):
        encoded = super().encode(stays, **options)
        features = np.array(encoded.features)
        mean = np.add.reduceat(features, encoded.step_offsets[:-1], axis=0) / encoded.lengths[:, None]
        return replace(encoded, features=features - np.repeat(mean, encoded.lengths, axis=0))


@pytest.mark.parametrize("grid", ["run", "event_run"])
@pytest.mark.parametrize("seed", range(3))
def test_scores_of_a_causal_model_do_not_know_the_future(request, grid, seed):
    run = request.getfixturevalue(grid)
    finding = check_future(run.scorer(run.network(), run.network()), run.data.parts[Part.TEST], seed=seed)
    assert "causal: true; " in finding.detail
    assert "bit-equal" in finding.detail


@pytest.mark.parametrize("grid", ["run", "event_run"])
def test_a_network_that_reads_the_future_is_caught(request, grid):
    run = request.getfixturevalue(grid)
    network = run.network(replace(NETWORK, bidirectional=True), SecretlyBidirectional)
    with caught("future", "scores that change by up to"):
        check_future(run.scorer(network), run.data.parts[Part.TEST], seed=1)


def test_an_encoding_that_reads_the_future_is_caught(run):
    fitted = run.data.encoding
    centred = Centred(fitted.grid, fitted.channels, fitted.statics, fitted.clip)
    with caught("future", "scores that change by up to"):
        check_future(run.scorer(run.network(), encoding=centred), run.data.parts[Part.TEST], seed=1)


def test_a_score_that_knows_later_notes_is_caught(event_run, monkeypatch):
    """A leak that leaves every value alone: the number of a stay's notes."""
    scorer = event_run.scorer(event_run.network())
    honest = scorer.score

    def counting(stays):
        scored = honest(stays)
        notes = np.repeat(np.diff(stays.note_offsets), np.diff(scored.step_offsets))[:, None]
        return replace(scored, risk=scored.risk + 1e-3 * notes)

    monkeypatch.setattr(scorer, "score", counting)
    with caught("future", "scores that change by up to"):
        check_future(scorer, event_run.data.parts[Part.TEST], seed=1)


def test_a_declared_bidirectional_network_is_exempt_and_recorded_as_not_causal(run):
    network = run.network(replace(NETWORK, bidirectional=True))
    finding = check_future(run.scorer(network), run.data.parts[Part.TEST], seed=1)
    assert finding.detail.startswith("causal: false")


def test_the_guide_says_what_every_guard_proves(line):
    text = (Path(__file__).parents[2] / "docs" / "leak-guards.md").read_text(encoding="utf-8")
    told = {row.split("|")[1].strip(" `") for row in text.splitlines() if row.startswith("| `")}
    assert {guard["name"] for guard in line.good.bundle.guards} <= told
