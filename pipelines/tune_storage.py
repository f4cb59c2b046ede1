"""A database's address in, a study that several processes and machines share out; dead trials are found and run again.

In PostgreSQL the tables have a schema of their own, as MLflow's in the same database use the same names; in SQLite a
study has a file of its own.
"""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from models.errors import ConfigError, RefusedError
from pipelines.database import CONNECT_WAIT_S, SQLITE_WAIT_S, DatabaseUnreachableError, open_engine
from pipelines.settings import with_driver
from pipelines.tune_config import PrunerKind, TuneConfig

SCHEMA = "sequela_tune"
INPUTS = "sequela.inputs"
REASON = "reason"
BEGUN = "begun"
# A trial whose process died is run again so often, and then left: it may be what kills.
RETRIES = 3
OPEN_ATTEMPTS = 5
OnLost = Callable[[FrozenTrial], None]

# Its own lines hold drawn values and stack traces; what counts is in the study and in MLflow.
optuna.logging.set_verbosity(optuna.logging.CRITICAL)
logging.getLogger("alembic").setLevel(logging.WARNING)


class NumberedSampler(optuna.samplers.BaseSampler):
    """TPE whose draw depends on the seed, the trial's number and the earlier trials alone.

    So several workers never draw the same, and a resumed search draws what an uninterrupted one does.

    Source: Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization (TPE).

    Args:
        seed: of the draws.
        startup_trials: trials that are drawn at random.
    """

    def __init__(self, seed: int, startup_trials: int) -> None:
        self._seed, self._startup, self._number = seed, startup_trials, -1

    def _of(self, trial: FrozenTrial) -> optuna.samplers.BaseSampler:
        if trial.number != self._number:
            seed = int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                self._tpe = optuna.samplers.TPESampler(
                    seed=seed, n_startup_trials=self._startup, multivariate=True, constant_liar=True
                )
            self._number = trial.number
        return self._tpe

    def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> Any:
        """TPE's."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(self, study: Any, trial: FrozenTrial, search_space: Any) -> Any:
        """TPE's."""
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(self, study: Any, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        """TPE's."""
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)


@dataclass(frozen=True)
class Tally:
    """How many trials are in which state.

    Args:
        complete: ended with a value.
        pruned: ended early.
        failed: ended with a reason, such as values that do not go together.
        lost: their process died or was stopped; run again under another number.
        running: now.
        waiting: to be run again.
    """

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    lost: int = 0
    running: int = 0
    waiting: int = 0

    @classmethod
    def of(cls, study: optuna.Study) -> Tally:
        """Counts a study's trials."""
        names = {
            TrialState.COMPLETE: "complete",
            TrialState.PRUNED: "pruned",
            TrialState.RUNNING: "running",
            TrialState.WAITING: "waiting",
        }
        counts = dict.fromkeys((*names.values(), "failed", "lost"), 0)
        for trial in study.get_trials(deepcopy=False):
            counts[names.get(trial.state) or ("failed" if REASON in trial.user_attrs else "lost")] += 1
        return cls(**counts)

    @property
    def done(self) -> int:
        """Trials that count towards those wanted."""
        return self.complete + self.pruned


@contextlib.contextmanager
def study_reached() -> Iterator[None]:
    """Turns the database's errors into one that says what to look at; their text may hold its password.

    Raises:
        DatabaseUnreachableError: if it does not answer or refuses.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise DatabaseUnreachableError(
            f"study database must answer and take its tables, got {type(error).__name__}; check --storage (or "
            "SEQUELA_DATABASE_URL) and the server"
        ) from error


def open_storage(url: str, tune: TuneConfig, on_lost: OnLost) -> RDBStorage:
    """The study's database, with its tables made where they are missing.

    Args:
        url: SQLAlchemy address of an SQLite file or a PostgreSQL database.
        tune: says how often a running trial gives a sign of life.
        on_lost: told of each trial that was found dead, before it is queued again.

    Raises:
        ConfigError: if the address cannot be read, or is of another program's database.
        DatabaseUnreachableError: if it does not answer.
    """
    open_engine(url).dispose()  # the address is checked as everywhere
    parsed = make_url(with_driver(url))
    options: dict[str, Any] = {"connect_args": {"timeout": SQLITE_WAIT_S}}
    if parsed.get_backend_name() == "postgresql":
        arguments = {"connect_timeout": CONNECT_WAIT_S, "options": f"-csearch_path={SCHEMA}"}
        options = {"pool_pre_ping": True, "connect_args": arguments}
    address = parsed.render_as_string(hide_password=False)
    again = requeue(on_lost)
    attempt = 1
    while True:
        try:
            with study_reached():
                if parsed.get_backend_name() == "postgresql":
                    _make_schema(create_engine(parsed, connect_args={"connect_timeout": CONNECT_WAIT_S}))
                return _connect(address, options, tune.heartbeat_s, again)
        except DatabaseUnreachableError as error:
            # Several workers make the same tables at once: all but one of them meet what they were about to make.
            if attempt == OPEN_ATTEMPTS or not isinstance(error.__cause__, IntegrityError | ProgrammingError):
                raise
            attempt += 1
            time.sleep(0.2)


def _connect(address: str, options: dict[str, Any], heartbeat_s: int, on_stale: Any) -> RDBStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            return RDBStorage(
                address,
                engine_kwargs=options,
                heartbeat_interval=heartbeat_s,
                grace_period=3 * heartbeat_s,
                heartbeat_stale_trial_callback=on_stale,
            )
        except (RuntimeError, AssertionError):
            raise ConfigError(
                "--storage must be a database of this release's studies, got one whose tables another program or "
                "release made; name another file or database"
            ) from None


def _make_schema(engine: Engine) -> None:
    try:
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    finally:
        engine.dispose()


def requeue(on_lost: OnLost) -> Callable[[optuna.Study, FrozenTrial], None]:
    """Queues a lost trial with the same values, a few times."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        retry = RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)

    def again(study: optuna.Study, trial: FrozenTrial) -> None:
        on_lost(trial)
        retry(study, trial)

    return again


@dataclass
class LostTrials:
    """Finds the trials whose process died.

    Args:
        study: whose trials.
        grace_s: after so long without a sign of life a trial is taken for dead.
    """

    study: optuna.Study
    grace_s: float

    def __post_init__(self) -> None:
        """Begins with nothing seen."""
        self._seen: dict[int, float] = {}

    def find(self) -> None:
        """Queues them again."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(self.study)
        now = time.monotonic()
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            # Killed before its first sign of life, a trial is running for ever in the eyes of the storage.
            if BEGUN not in trial.user_attrs and now - self._seen.setdefault(trial.number, now) > self.grace_s:
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def open_study(
    storage: RDBStorage, name: str, tune: TuneConfig, inputs: Mapping[str, str], *, resource: int
) -> optuna.Study:
    """The study of that name: a new one, or the one to go on with.

    Args:
        storage: its database.
        name: of the study.
        tune: settings of the search.
        inputs: digest of everything that decides a trial's value, by what it is.
        resource: greatest number of reports of a trial.

    Raises:
        RefusedError: if the study was made from other inputs.
    """
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction=tune.metric.direction,
        load_if_exists=True,
        sampler=NumberedSampler(tune.seed, tune.startup_trials),
        pruner=_pruner(tune, resource),
    )
    if INPUTS not in study.user_attrs and not study.get_trials(deepcopy=False):
        study.set_user_attr(INPUTS, dict(inputs))
    known = study.user_attrs.get(INPUTS, {})
    other = [what for what, digest in inputs.items() if known.get(what) != digest]
    if other:
        raise RefusedError(
            f"study {name!r} must be of the same {', '.join(inputs)}, got another {' and '.join(other)}; name another "
            "with --study, or take back the change"
        )
    return study


def _pruner(tune: TuneConfig, resource: int) -> optuna.pruners.BasePruner:
    if not tune.pruning:
        return optuna.pruners.NopPruner()
    if tune.pruner is PrunerKind.HYPERBAND:
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=resource, reduction_factor=3)
    return optuna.pruners.MedianPruner(n_startup_trials=tune.startup_trials, n_warmup_steps=1)
