"""From a compose file, as written, to the faults by which it breaks the policy of docs/deployment.md."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY", re.IGNORECASE)
PINNED_IMAGE = re.compile(r"[\w./-]+(:v?\d+\.\d+(\.\d+)?([\w.-]*)|@sha256:[0-9a-f]{64})")
MAY_PUBLISH = {"api", "api-gpu", "mlflow", "grafana"}


def faults(compose: Mapping[str, Any]) -> list[str]:
    """Everything in which a compose file, as written, breaks the policy of docs/deployment.md."""
    found = []
    for name, service in compose["services"].items():
        rules = (_isolation, _image, _published, _mounts, _secrets, _health, _gpu)
        found += [f"{name}: {fault}" for rule in rules for fault in rule(name, service, compose)]
        found += [f"{name}: {fault}" for fault in _references(service, compose)]
    return found


def _isolation(name: str, service: Mapping[str, Any], compose: Mapping[str, Any]) -> Iterator[str]:
    user = str(service.get("user", "0")).split(":")[0]
    if not user.isdigit() or int(user) == 0:
        yield "runs as root or as a name that the image may map to root"
    if service.get("read_only") is not True or not service.get("tmpfs"):
        yield "can write to its image"
    if service.get("cap_drop") != ["ALL"] or service.get("cap_add"):
        yield "keeps capabilities"
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield "may gain privileges"
    loosened = ("privileged", "network_mode", "pid", "ipc", "userns_mode", "devices", "volumes_from")
    yield from (f"sets {key}" for key in loosened if service.get(key))


def _image(name: str, service: Mapping[str, Any], compose: Mapping[str, Any]) -> Iterator[str]:
    if not PINNED_IMAGE.fullmatch(service.get("image", "")):
        yield "has an image without a pinned version"


def _published(name: str, service: Mapping[str, Any], compose: Mapping[str, Any]) -> Iterator[str]:
    internal = {key for key, network in compose["networks"].items() if (network or {}).get("internal") is True}
    open_networks = set(service.get("networks", ["default"])) - internal
    if name not in MAY_PUBLISH and (service.get("ports") or open_networks):
        yield "is published or has a way out of the machine"
    for port in service.get("ports", []):
        host = str(port).split(":")[0]
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(host).is_loopback:
                continue
        yield f"publishes {port} beyond the loopback interface"


def _mounts(name: str, service: Mapping[str, Any], compose: Mapping[str, Any]) -> Iterator[str]:
    for volume in service.get("volumes", []):
        if not isinstance(volume, dict):
            yield "has a mount in the short form"
        elif volume["type"] == "bind" and volume.get("read_only") is not True:
            yield f"can write to {volume['source']} of the machine"
        elif "docker.sock" in str(volume["source"]):
            yield "holds the engine's socket"


def _secrets(name: str, service: Mapping[str, Any], compose: Mapping[str, Any]) -> Iterator[str]:
    for key, value in service.get("environment", {}).items():
        without_variables = re.sub(r"\$\{[^}]*\}", "$", str(value))
        in_address = re.search(r"://[^/@]*:[^/@$]+@", without_variables)
        if in_address or (SECRET_NAME.search(key) and not re.fullmatch(r"\$\{\w+:[?-][^}]*\}", str(value))):
            yield f"has the secret {key} in the file"
        if "PASSWORD" in str(value) and ":?" not in str(value):
            yield f"would start with an empty {key}"
    if any(SECRET_NAME.search(str(part)) for part in _words(service.get("command"))):
        yield "shows a secret in its command"


def _health(name: str, service: Mapping[str, Any], compose: Mapping[str, Any]) -> Iterator[str]:
    check = service.get("healthcheck", {})
    if check.get("disable") or not _words(check.get("test")) or check["test"] == ["NONE"]:
        yield "has no health check"
    if not service.get("restart"):
        yield "is not started again"


def _gpu(name: str, service: Mapping[str, Any], compose: Mapping[str, Any]) -> Iterator[str]:
    reserved = service.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
    if bool(reserved) != ("gpu" in service.get("profiles", [])):
        yield "asks for a GPU outside the profile `gpu`, or has the profile without a GPU"


def _references(service: Mapping[str, Any], compose: Mapping[str, Any]) -> Iterator[str]:
    """What the schema alone does not see: names that nothing declares, and waits that wait for nothing."""
    yield from (f"uses the undeclared network {n}" for n in service.get("networks", []) if n not in compose["networks"])
    named = [v["source"] for v in service.get("volumes", []) if isinstance(v, dict) and v["type"] == "volume"]
    yield from (f"uses the undeclared volume {v}" for v in named if v not in compose["volumes"])
    yield from (f"uses the undeclared secret {s}" for s in service.get("secrets", []) if s not in compose["secrets"])
    needed = service.get("depends_on", {})
    if not isinstance(needed, dict):
        yield "waits without a condition"
        return
    for other, how in needed.items():
        if other not in compose["services"]:
            yield f"waits for the undeclared service {other}"
        # The API itself may wait for a first model; whoever observes it must not.
        elif how["condition"] != "service_healthy" and other != "api":
            yield f"does not wait until {other} is healthy"


def _words(command: Any) -> list[str]:
    return command.split() if isinstance(command, str) else [str(part) for part in command or []]
