"""The whole line on a synthetic cohort: prepare, train, register, promote, serve, score over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.disclaimer import DISCLAIMER_EN
from models.stay import Stays
from pipelines.cohort import Cohort, write_cohort
from pipelines.commands.train import metric_lines
from pipelines.config import RunConfig, load_config
from pipelines.local_server import free_port, post_json, running, start, wait_until_ready
from pipelines.promote import Evidence, promote
from pipelines.publish import Publication
from pipelines.retrain_config import GateConfig
from pipelines.settings import Settings, local_settings
from pipelines.sources.simulated_notes import Language
from pipelines.sources.simulator import best_reachable_auroc, simulate
from pipelines.train import train

Say = Callable[[str], None]
DASHBOARD_PORT = 5000
# Seventy events leave a slope's standard error near 0.15: a demo must not end by that chance.
DEMO_GATE = GateConfig(slope=(0.6, 1.7))


def run_demo(folder: Path, config_file: Path, *, stays: int, dashboard: bool, say: Say) -> dict[str, Any]:
    """Runs the line once and leaves cohort, model, tracking database and logs in `folder`."""
    config = load_config(config_file)
    settings = local_settings(folder)
    say("1/5 prepare: a simulated cohort with English and Japanese notes")
    cohort = simulate(stays=stays, seed=config.seed, language=Language.BOTH)
    write_cohort(cohort, folder / "cohort")
    for line in cohort.report.lines():
        say(f"  {line}")
    say("2/5 train with truncated BPTT, calibrate, evaluate")
    with Publication(config, settings, cohorts=[folder / "cohort"]) as publication:
        trained = train(
            [cohort], config, folder=folder / "work", progress=False, say=say, on_epoch=publication.log_epoch
        )
        version = publication.register(trained)
    for line in metric_lines(trained.metrics, trained.baselines, of="hold-out"):
        say(f"  {line}")
    say(f"  best reachable AUROC (risk known to the simulator): {best_reachable_auroc(cohort):.3f}")
    say(f"3/5 register: models:/{config.name}/{version}, alias challenger")
    evidence = Evidence(cohort=cohort, scores=trained.scores, gate=DEMO_GATE)
    verdict = promote(config.name, version, settings=settings, evidence=evidence)
    say(f"4/5 promote: alias champion ({verdict.summary})")
    answer = _score_over_http(cohort, config, settings, folder, say=say)
    address = _dashboard(settings, folder) if dashboard else ""
    if address:
        say(f"MLflow dashboard: {address} (running in the background; `make stop` ends it)")
    say(DISCLAIMER_EN)
    return {"risk": answer, "model": f"models:/{config.name}/{version}", "dashboard": address}


def _score_over_http(cohort: Cohort, config: RunConfig, settings: Settings, folder: Path, *, say: Say) -> Any:
    port = free_port(8000)
    environment = {
        **settings.environment(),
        "SEQUELA_MODEL": f"models:/{config.name}@champion",
        "SEQUELA_PORT": str(port),
        "SEQUELA_CACHE": str(folder / "service-cache"),
    }
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "service"]
    with running(command, url=f"{base}/readyz", log=folder / "service.log", environment=environment):
        answer = post_json(f"{base}/v1/score", request_body(cohort, 0))
    say(f"5/5 score: POST {base}/v1/score")
    for risk in answer["risks"]:
        say(f"  risk of {risk['outcome']} at {answer['as_of_h']:.1f} h: {100 * risk['risk']:.1f} %")
    return answer


def request_body(cohort: Cohort, index: int) -> dict[str, Any]:
    """One stay of a cohort as the body of `POST /v1/score`."""
    stay: Stays = cohort.stays.select([index])
    units = {c.name: c.unit for c in cohort.channels}
    static: dict[str, Any] = {}
    for variable, value in zip(cohort.statics, stay.static[0].tolist(), strict=True):
        if value == value:  # a missing static value is NaN and is left out
            static[variable.name] = (
                variable.categories[int(value)] if variable.categories else {"value": value, "unit": variable.unit}
            )
    return {
        "as_of_h": int(stay.end_min[0]) / 60,
        "static": static,
        "observations": [
            {"channel": stay.channels[c], "time_h": t / 60, "value": v, "unit": units[stay.channels[c]]}
            for t, c, v in zip(stay.time_min.tolist(), stay.channel.tolist(), stay.value.tolist(), strict=True)
        ],
        "notes": [
            {"time_h": t / 60, "kind": k, "text": x}
            for t, k, x in zip(stay.note_time_min.tolist(), stay.note_kind, stay.note_text, strict=True)
        ],
    }


def _dashboard(settings: Settings, folder: Path) -> str:
    port = free_port(DASHBOARD_PORT)
    log = folder / "mlflow.log"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", settings.tracking_uri]
    command += ["--default-artifact-root", str(folder / "mlartifacts")]
    process = start(command, log=log, environment=settings.environment())
    (folder / "mlflow.pid").write_text(f"{process.pid}\n", encoding="utf-8")
    wait_until_ready(process, f"http://127.0.0.1:{port}/health", seconds=90, log=log)
    return f"http://127.0.0.1:{port}"
