"""The search of `pipelines.tune` on a Ray cluster: the same space, figure and MLflow runs, and the same TOML out.

Ray Tune hands out the trials, Optuna's TPE draws them, and ASHA ends those that fall behind. A search here is one run
of the cluster: unlike a study in a database it is not gone on with. The working folder must be one that every machine
of the cluster sees under the same path.
"""

# ruff: noqa: ARG002  Ray gives a hook all its arguments, wanted or not

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from models.errors import RefusedError, SequelaError
from pipelines.config import RunConfig
from pipelines.fit import Interrupted
from pipelines.labels import task_outcomes
from pipelines.notes_scan import scan_notes
from pipelines.progress import Progress
from pipelines.ray_cluster import cluster, quiet_ray, silent_ray
from pipelines.settings import with_path
from pipelines.tune import Found, conclude
from pipelines.tune_data import FoldStore, encoded_folder, fold_indices
from pipelines.tune_objective import check_metric, trial_value
from pipelines.tune_space import Space
from pipelines.tune_storage import NumberedSampler, Tally
from pipelines.tune_tracking import RUN_ID, StudyRuns, TrialEnd, TrialRun
from pipelines.tune_worker import Say, Search, read_cohorts, stoppable

VALUE, STEP, FINAL, NUMBER = "value", "step", "final", "number"
ASHA_REDUCTION = 3


def tune_on_ray(search: Search, address: str, *, progress: bool = False, say: Say = lambda _: None) -> Found:
    """Searches on a cluster; `search.processes` trials run at once, one processor each.

    Args:
        search: what is searched; its database and inputs are not used.
        address: of the cluster, as for `pipelines.ray_cluster.cluster`.
        progress: show a bar on standard error.
        say: receives lines for people.

    Raises:
        ConfigError: if the space or the configuration does not hold, or Ray is not installed; before any trial.
        DataError: if the cohort does not have what the task needs; before any trial.
        RefusedError: if no trial ended with a value.
        Interrupted: if SIGTERM came.
        TrackingError: if MLflow cannot be reached.
        ClusterUnreachableError: if no cluster answers.
    """
    search = _anywhere(search)
    space = search.space()
    config = space.config({})
    check_metric(config)
    cohort = read_cohorts(search.cohorts)
    task_outcomes(cohort, config.task)
    fold_indices(cohort, config)
    say(f"cohort {cohort.fingerprint[:23]}: {len(cohort.stays):,} stays, {len(space.parameters)} keys to search")
    scan_notes(cohort, config, say)
    runs = StudyRuns(search.settings, search.study, config.name)
    with stoppable(), encoded_folder(search.folder) as folder, cluster(address, processes=search.processes):
        runs.open(search.plain)
        store = FoldStore(cohort, folder)
        if not any(p.key.startswith(("encoding.", "notes.")) for p in space.parameters):
            store.folds(config)  # once for all trials
        try:
            with Progress("trials", total=config.tune.trials, unit="trial", show=progress) as bar:
                results = _search(search, space, config, runs, store, bar)
            return _found(results, space, config, runs)
        except SequelaError as error:
            runs.stop(str(error), killed=isinstance(error, Interrupted))
            raise


def _search(
    search: Search, space: Space, config: RunConfig, runs: StudyRuns, store: FoldStore, bar: Progress
) -> list[Any]:
    """Every trial's last report and error, as Ray Tune has them."""
    with quiet_ray(), tempfile.TemporaryDirectory(dir=search.folder, prefix="ray-") as folder:
        from ray import tune as ray_tune
        from ray.tune.search.optuna import OptunaSearch

        mode = "max" if config.tune.metric.direction == "maximize" else "min"
        given = {"search": search, "store": store, "parent": runs.parent}
        tuner = ray_tune.Tuner(
            ray_tune.with_resources(ray_tune.with_parameters(_trial, **given), {"cpu": 1}),
            tune_config=ray_tune.TuneConfig(
                metric=VALUE,
                mode=mode,
                num_samples=config.tune.trials,
                max_concurrent_trials=search.processes,
                time_budget_s=search.timeout_s,
                search_alg=OptunaSearch(
                    space=partial(_drawn, space),
                    metric=VALUE,
                    mode=mode,
                    sampler=NumberedSampler(config.tune.seed, config.tune.startup_trials),
                ),
                scheduler=_scheduler(config),
            ),
            run_config=ray_tune.RunConfig(
                name="search", storage_path=str(Path(folder).resolve()), verbose=0, callbacks=[_counter(bar)]
            ),
        )
        with silent_ray():
            results = tuner.fit()
        return [results[number] for number in range(len(results))]


def _anywhere(search: Search) -> Search:
    """The search with whole paths: a process of the cluster works in a folder of Ray's."""
    settings = search.settings
    tracking, registry = with_path(settings.tracking_uri), with_path(settings.registry_uri)
    found = replace(settings, tracking_uri=tracking, registry_uri=registry)
    return replace(search, folder=search.folder.resolve(), settings=found)


def _drawn(space: Space, trial: Any) -> dict[str, int]:
    """Draws every key, and tells the trial its number."""
    space.suggest(trial)
    return {NUMBER: int(trial.number)}


def _scheduler(config: RunConfig) -> Any:
    """ASHA over epochs (with folds: over folds); its last rung lies beyond the last report, which is the result.

    Source: Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning (ASHA).
    """
    from ray.tune.schedulers import ASHAScheduler

    if not config.tune.pruning:
        return None
    most = config.training.max_epochs if config.tune.folds == 1 else config.tune.folds
    return ASHAScheduler(time_attr=STEP, max_t=most + 2, grace_period=1, reduction_factor=ASHA_REDUCTION)


def _counter(bar: Progress) -> Any:
    """Moves the bar as trials end."""
    from ray.tune import Callback

    class Counter(Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
            bar.to(bar.done + 1)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
            bar.to(bar.done + 1)

    return Counter()


def _trial(drawn: Mapping[str, Any], *, search: Search, store: FoldStore, parent: str) -> None:
    """What a process of the cluster runs for one trial."""
    from ray import tune as ray_tune

    space = search.space()
    values = space.values(drawn)
    runs = StudyRuns(search.settings, search.study, space.config({}).name, parent)
    runs.connect()
    number = int(drawn[NUMBER])
    with encoded_folder(search.folder) as folder, runs.trial(number, values) as run:
        known = {NUMBER: number, RUN_ID: run.run_id}
        last = 0

        def report(step: int, value: float, row: Mapping[str, float]) -> None:
            nonlocal last
            run.log(row, step=step)
            last += 1
            ray_tune.report({VALUE: value, STEP: last, FINAL: False, **known})

        config = space.config(values)
        value = trial_value(config, replace(store, folder=folder), folder=folder / "trial", report=report)
        run.value(value)
        ray_tune.report({VALUE: value, STEP: last + 1, FINAL: True, **known})


def _found(results: list[Any], space: Space, config: RunConfig, runs: StudyRuns) -> Found:
    done = [r for r in results if r.error is None and r.metrics and r.metrics.get(FINAL)]
    failed = [r for r in results if r.error is not None]
    pruned = [r for r in results if r.error is None and r.metrics and r.metrics.get(FINAL) is False]
    for result in pruned:
        # ASHA ends a trial's process where it stands.
        TrialRun(runs.client, result.metrics[RUN_ID]).end(TrialEnd.PRUNED)
    sign = 1.0 if config.tune.metric.direction == "maximize" else -1.0
    finite = [r for r in done if math.isfinite(r.metrics[VALUE])]
    if not finite:
        raise RefusedError(
            f"search must have a trial that ends with a value, got {len(failed)} failed ones; see sequela.reason of "
            "their runs in MLflow"
        )
    best = max(finite, key=lambda r: sign * r.metrics[VALUE])
    tally = Tally(complete=len(done), pruned=len(pruned), failed=len(failed))
    values = space.values(best.config)
    return conclude(space, config, runs, tally, int(best.metrics[NUMBER]), float(best.metrics[VALUE]), values)
