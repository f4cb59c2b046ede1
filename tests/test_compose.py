"""The compose file: the specification's schema, the policy, and its own commands run as local processes."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import yaml

from pipelines.child import Limits
from pipelines.config import load_config
from service.metrics import Metrics
from tests.compose_policy import faults
from tests.compose_support import ROOT, interpolate, load_raw, variables

SCHEMA_FILE = ROOT / "tests" / "vendor" / "compose-spec" / "compose-spec.json"
RAW = load_raw()
SCHEMA = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
VALIDATOR = jsonschema.validators.validator_for(SCHEMA)(SCHEMA)
PASSWORDS = {"POSTGRES_PASSWORD": "given", "GRAFANA_PASSWORD": "given"}
RESOLVED = interpolate(RAW, PASSWORDS)
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

Change = Callable[[dict[str, Any]], object]


def _changed(change: Change) -> dict[str, Any]:
    compose = copy.deepcopy(RAW)
    change(compose["services"])
    return compose


# --- the schema -------------------------------------------------------------------------------------


def test_the_vendored_schema_is_the_published_one() -> None:
    note = (SCHEMA_FILE.parent / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(SCHEMA_FILE.read_bytes()).hexdigest() in note
    assert "Apache License" in (SCHEMA_FILE.parent / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("compose", [RAW, RESOLVED], ids=["as written", "resolved"])
def test_the_file_keeps_the_specification(compose: dict[str, Any]) -> None:
    assert [f"{list(e.absolute_path)}: {e.message}" for e in VALIDATOR.iter_errors(compose)] == []


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["api"].update(comand=["x"]),
        lambda s: s["api"].update(ports=8000),
        lambda s: s["mlflow"]["depends_on"].update(postgres={"condition": "healthy"}),
        lambda s: s["postgres"].update(healthcheck={"test": 3}),
    ],
)
def test_a_file_against_the_specification_is_found(change: Change) -> None:
    assert list(VALIDATOR.iter_errors(_changed(change))) != []


# --- the policy -------------------------------------------------------------------------------------


def test_the_file_keeps_the_policy() -> None:
    assert faults(RAW) == []


BREACHES: list[tuple[str, Change]] = [
    ("runs as root", lambda s: s["api"].update(user="0:0")),
    ("runs as root", lambda s: s["scheduler"].pop("user")),
    ("runs as root", lambda s: s["postgres"].update(user="postgres")),
    ("can write to its image", lambda s: s["mlflow"].update(read_only=False)),
    ("keeps capabilities", lambda s: s["api"].pop("cap_drop")),
    ("keeps capabilities", lambda s: s["api"].update(cap_add=["NET_ADMIN"])),
    ("may gain privileges", lambda s: s["prometheus"].update(security_opt=[])),
    ("sets privileged", lambda s: s["api"].update(privileged=True)),
    ("sets network_mode", lambda s: s["api"].update(network_mode="host")),
    ("without a pinned version", lambda s: s["postgres"].update(image="postgres")),
    ("without a pinned version", lambda s: s["prometheus"].update(image="prom/prometheus:latest")),
    ("is published", lambda s: s["postgres"].update(ports=["127.0.0.1:5432:5432"])),
    ("is published", lambda s: s["scheduler"].update(networks=["edge"])),
    ("is published", lambda s: s["prometheus"].pop("networks")),
    ("beyond the loopback interface", lambda s: s["api"].update(ports=["8000:8000"])),
    ("beyond the loopback interface", lambda s: s["mlflow"].update(ports=["0.0.0.0:5000:5000"])),
    ("can write to", lambda s: s["scheduler"]["volumes"][0].update(read_only=False)),
    ("short form", lambda s: s["scheduler"].update(volumes=["/var/run/docker.sock:/var/run/docker.sock"])),
    ("the engine's socket", lambda s: s["scheduler"]["volumes"][0].update(source="/var/run/docker.sock")),
    ("has the secret", lambda s: s["postgres"]["environment"].update(POSTGRES_PASSWORD="hunter2")),
    ("has the secret", lambda s: s["mlflow"]["environment"].update(AWS_SECRET_ACCESS_KEY="abc")),
    ("has the secret", lambda s: s["scheduler"]["environment"].update(SEQUELA_DATABASE_URL="postgresql://a:b@c/d")),
    ("with an empty", lambda s: s["postgres"]["environment"].update(POSTGRES_PASSWORD="${POSTGRES_PASSWORD:-}")),
    ("secret in its command", lambda s: s["mlflow"]["command"].append("${POSTGRES_PASSWORD:?}")),
    ("no health check", lambda s: s["scheduler"].pop("healthcheck")),
    ("no health check", lambda s: s["api"].update(healthcheck={"disable": True})),
    ("is not started again", lambda s: s["api"].pop("restart")),
    ("asks for a GPU", lambda s: s["api-gpu"].pop("profiles")),
    ("asks for a GPU", lambda s: s["api-gpu"].pop("deploy")),
    ("undeclared network", lambda s: s["api"]["networks"].append("elsewhere")),
    ("undeclared volume", lambda s: s["api"]["volumes"].append({"type": "volume", "source": "x", "target": "/x"})),
    ("undeclared secret", lambda s: s["api"].update(secrets=["other"])),
    ("undeclared service", lambda s: s["api"]["depends_on"].update(redis={"condition": "service_healthy"})),
    ("without a condition", lambda s: s["mlflow"].update(depends_on=["postgres"])),
    ("is healthy", lambda s: s["mlflow"].update(depends_on={"postgres": {"condition": "service_started"}})),
]


@pytest.mark.parametrize(("said", "change"), BREACHES)
def test_a_breach_of_the_policy_is_found(said: str, change: Change) -> None:
    assert any(said in fault for fault in faults(_changed(change)))


def test_the_services_are_those_of_the_deployment() -> None:
    assert set(RAW["services"]) == {"postgres", "mlflow", "scheduler", "api", "api-gpu", "prometheus", "grafana"}
    assert RAW["services"]["api-gpu"]["profiles"] == ["gpu"]
    assert {name for name, service in RAW["services"].items() if service.get("profiles")} == {"api-gpu"}


def test_the_api_cannot_reach_the_database_and_the_database_reaches_nothing() -> None:
    networks = {name: set(service["networks"]) for name, service in RAW["services"].items()}
    assert networks["api"] & networks["postgres"] == set()
    assert networks["postgres"] == {"database"}
    assert RAW["networks"]["database"] == {"internal": True}


def test_mlflow_proxies_artifacts_checks_host_names_and_moves_to_s3_by_one_variable() -> None:
    command = RAW["services"]["mlflow"]["command"]
    assert "--serve-artifacts" in command
    hosts = RESOLVED["services"]["mlflow"]["command"][command.index("--allowed-hosts") + 1].split(",")
    assert "*" not in hosts
    moved = interpolate(RAW, {**PASSWORDS, "MLFLOW_ARTIFACTS_DESTINATION": "s3://bucket/prefix"})
    differing = {
        f"{name}.{key}"
        for name, service in moved["services"].items()
        for key, value in service.get("environment", {}).items()
        if value != RESOLVED["services"][name]["environment"][key]
    }
    assert differing == {"mlflow.MLFLOW_ARTIFACTS_DESTINATION"}


def test_a_stopped_training_has_longer_than_its_grace_to_leave_a_checkpoint() -> None:
    assert int(RAW["services"]["scheduler"]["stop_grace_period"].removesuffix("s")) > Limits().grace_s


# --- variables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("${A}", {"A": "1"}, "1"),
        ("$A/b", {"A": "1"}, "1/b"),
        ("${A:-x}", {}, "x"),
        ("${A:-x}", {"A": ""}, "x"),
        ("${A-x}", {"A": ""}, ""),
        ("${A:-}", {}, ""),
        ("${A:+x}", {"A": "1"}, "x"),
        ("${A:+x}", {}, ""),
        ("${A:-models:/m@champion}", {}, "models:/m@champion"),
        ("$${A}", {"A": "1"}, "${A}"),
        (["${A:-x}", {"k": "${A:-y}"}, 3], {}, ["x", {"k": "y"}, 3]),
    ],
)
def test_variables_are_resolved_as_compose_does(text: Any, environment: dict[str, str], expected: Any) -> None:
    assert interpolate(text, environment) == expected


@pytest.mark.parametrize("missing", sorted(PASSWORDS))
def test_the_stack_does_not_start_without_a_password(missing: str) -> None:
    given = {name: word for name, word in PASSWORDS.items() if name != missing}
    with pytest.raises(KeyError, match=missing):
        interpolate(RAW, given)
    with pytest.raises(KeyError, match=missing):
        interpolate(RAW, {**PASSWORDS, missing: ""})


def test_every_variable_is_documented() -> None:
    documented = set(
        re.findall(r"^\| `([A-Z_]+[A-Z0-9_]*)`", (ROOT / "docs" / "deployment.md").read_text("utf-8"), re.MULTILINE)
    )
    assert variables(RAW) == documented


def test_the_job_that_runs_by_default_exists_and_finds_its_folders_in_the_container() -> None:
    command = RESOLVED["services"]["scheduler"]["command"]
    retrain = load_config(ROOT / command[command.index("--config") + 1]).retrain
    assert retrain is not None
    targets = {v["target"].removeprefix("/var/lib/sequela/") for v in RAW["services"]["scheduler"]["volumes"]}
    used = {str(path).split("/")[0] for path in (*retrain.paths, retrain.outcomes, retrain.cohort)}
    assert used == {"data", "cohorts"}
    assert used < targets


# --- images -----------------------------------------------------------------------------------------


def test_every_image_that_is_built_is_a_target_of_the_dockerfile() -> None:
    targets = {s["build"]["target"] for s in RAW["services"].values() if "build" in s}
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE))
    assert targets == {"service", "pipelines", "mlflow"}
    assert targets <= stages


@pytest.mark.parametrize("target", ["service", "pipelines", "mlflow"])
def test_an_image_runs_as_the_user_of_the_compose_file(target: str) -> None:
    stage = DOCKERFILE.split(f" AS {target}\n")[1].split("\nFROM ")[0]
    services = [s for s in RAW["services"].values() if s.get("build", {}).get("target") == target]
    assert {s["user"] for s in services} == set(re.findall(r"^USER (\S+)$", stage, flags=re.MULTILINE))


def test_requirements_are_installed_before_the_source_is_copied() -> None:
    for target, package in (("service", "service"), ("pipelines", "pipelines")):
        stage = DOCKERFILE.split(f" AS {target}-builder\n")[1].split("\nFROM ")[0]
        assert stage.index("-c requirements.lock") < stage.index(f"COPY {package} ")


@pytest.mark.parametrize("target", ["service", "pipelines"])
def test_an_image_can_score_with_boosted_trees(target: str) -> None:
    builder = DOCKERFILE.split(f" AS {target}-builder\n")[1].split("\nFROM ")[0]
    (extras,) = re.findall(r"dependencies\.py (.+) > wanted\.txt", builder)
    script = [sys.executable, str(ROOT / "deploy" / "dependencies.py"), *extras.split()]
    listed = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(r"^lightgbm\b", listed, flags=re.MULTILINE)
    base = re.findall(rf"^FROM (\S+) AS {target}$", DOCKERFILE, flags=re.MULTILINE)[0]
    assert "libgomp1" in DOCKERFILE.split(f" AS {base}\n")[1].split("\nFROM ")[0]


def test_the_list_of_an_images_requirements_is_the_projects() -> None:
    script = [sys.executable, str(ROOT / "deploy" / "dependencies.py")]
    listed = subprocess.run([*script, "service"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {re.split(r"[<>=]", name)[0] for name in listed} >= {"torch", "fastapi", "uvicorn", "numpy"}
    assert not {re.split(r"[<>=]", name)[0] for name in listed} & {"pytorch-lightning", "pytest", "lightgbm"}
    refused = subprocess.run([*script, "servce"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "servce" in refused.stderr


def test_only_named_files_reach_an_image() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()
    }
    allowed = [rule.removeprefix("!").rstrip("/") for rule in rules if rule.startswith("!")]
    assert [name for name in copied if name.split("/")[0] not in allowed] == []
    assert all((ROOT / name).exists() for name in allowed)


def test_prometheus_reads_the_apis_figures_by_its_name() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text(encoding="utf-8"))
    job = next(j for j in config["scrape_configs"] if j["job_name"] == "sequela")
    assert job["metrics_path"] == "/metrics"
    assert job["dns_sd_configs"][0]["names"] == ["api", "api-gpu"]
    assert set(job["dns_sd_configs"][0]["names"]) <= set(RAW["services"])
    trusted = RESOLVED["services"]["api"]["environment"]["SEQUELA_TRUSTED_HOSTS"].split(",")
    assert set(job["dns_sd_configs"][0]["names"]) <= set(trusted)
    assert job["authorization"]["credentials_file"] == "/run/secrets/metrics-key"
    assert RAW["services"]["prometheus"]["secrets"] == ["metrics-key"]


def test_the_api_starts_with_keys_alone_and_both_variants_have_the_same() -> None:
    for name in ("api", "api-gpu"):
        service = RESOLVED["services"][name]
        target = next(v["target"] for v in service["volumes"] if v["source"] == "api-keys")
        assert service["environment"]["SEQUELA_KEYS"].startswith(f"{target}/")


# --- Grafana ----------------------------------------------------------------------------------------

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "sequela.json").read_text(encoding="utf-8"))
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"


def test_the_dashboard_asks_for_figures_that_the_service_has_and_leaves_none_out() -> None:
    metrics = Metrics()
    for watch in (metrics.watch_queue, metrics.watch_audit):
        watch(lambda: 0)
    metrics.watch_stays(lambda: 0, lambda: 0)
    had = {family.name for family in metrics.registry.collect() if family.name.startswith("sequela_")}
    asked = {
        re.sub(r"_(bucket|sum|count|total)$", "", name)
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
        for name in re.findall(r"\bsequela_\w+", target["expr"])
    }
    assert asked == had


def test_the_dashboard_is_whole_and_says_what_it_is_for() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert "research use only" in DASHBOARD["title"].lower()


def test_grafana_finds_its_source_and_its_dashboards_where_they_are_mounted() -> None:
    source = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text("utf-8"))["datasources"][0]
    uids = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel["targets"]}
    assert uids == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    provider = yaml.safe_load((PROVISIONING / "dashboards" / "sequela.yml").read_text("utf-8"))["providers"][0]
    mounts = {v["target"]: v["source"] for v in RAW["services"]["grafana"]["volumes"]}
    assert mounts[provider["options"]["path"]] == "./deploy/grafana/dashboards"
    assert mounts["/etc/grafana/provisioning"] == "./deploy/grafana/provisioning"
