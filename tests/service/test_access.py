"""Who may do what over HTTP: keys, scopes and rates of a started application."""

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from models.errors import ConfigError
from service.access import Access, GuardedRoute, is_loopback, needs
from service.app import create_app
from service.keys import Scope, make_key, write_keys
from service.settings import Settings


@pytest.fixture
def presented(tmp_path):
    """What holders of keys present, by scope; `slow` may ask three times an hour."""
    made = {scope: make_key(scope, [scope]) for scope in Scope}
    made["slow"] = make_key("slow", [Scope.SCORE], rate="3/hour")
    write_keys(tmp_path / "keys.json", [key for key, _ in made.values()])
    return {scope: {"Authorization": f"Bearer {shown}"} for scope, (_, shown) in made.items()}


@pytest.fixture
def locked(scorer, tmp_path, presented):
    settings = Settings(
        host="0.0.0.0", trusted_hosts=("testserver",), keys=tmp_path / "keys.json", cache=tmp_path / "cache"
    )
    with TestClient(create_app(settings, scorer)) as client:
        yield client


def operations(client):
    """Every method and path of the schema, with what it needs."""
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            needed = None if "security" not in operation else [s["key"][0] for s in operation["security"]]
            yield method, path.replace("{", "").replace("}", ""), needed


def test_every_operation_says_what_it_needs_and_only_three_need_nothing(locked):
    found = list(operations(locked))
    assert [f for f in found if f[2] is None] == []
    assert {path for _, path, needed in found if not needed} == {"/livez", "/readyz"}
    schemes = locked.get("/openapi.json").json()["components"]["securitySchemes"]
    assert schemes["key"]["scheme"] == "bearer"


def test_no_route_of_the_application_is_unguarded(locked):
    def routes(router):
        for route in router.routes:
            if hasattr(route, "original_router"):
                yield from routes(route.original_router)
            elif isinstance(route, APIRoute):
                yield route

    found = list(routes(locked.app))
    assert len(found) >= 6
    assert [r.path for r in found if not isinstance(r, GuardedRoute) or r.needed is None] == []


def test_without_a_key_every_guarded_operation_is_closed_before_its_body_is_read(locked):
    for method, path, needed in operations(locked):
        answer = locked.request(method, path, content=b"{", headers={"Content-Type": "application/json"})
        assert answer.status_code == (401 if needed else 200), path
        assert (answer.headers.get("WWW-Authenticate") == "Bearer") == bool(needed)


def test_a_key_opens_what_its_scope_names_and_nothing_else(locked, presented):
    for scope in Scope:
        for method, path, needed in operations(locked):
            if needed and scope not in needed:
                assert locked.request(method, path, headers=presented[scope]).status_code == 403, path
    assert locked.post("/v1/score", json={}, headers=presented[Scope.SCORE]).status_code == 200
    assert locked.get("/metrics", headers=presented[Scope.AUDIT]).status_code == 200
    assert locked.get("/v1/model", headers=presented[Scope.ADMIN]).status_code == 200


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer sqk_0_0", "Basic {key}", "{key}", "Bearer {key}x", "Bearer x{key}", "Bearer ü"],
)
def test_what_is_no_key_opens_nothing_and_is_not_repeated(locked, presented, header):
    key = presented[Scope.SCORE]["Authorization"].removeprefix("Bearer ")
    given = header.format(key=key).encode("latin-1")
    answer = locked.post("/v1/score", json={}, headers={"Authorization": given})
    assert answer.status_code == 401
    assert "sqk" not in answer.text


def test_a_key_in_the_address_is_not_taken(locked, presented):
    key = presented[Scope.SCORE]["Authorization"].removeprefix("Bearer ")
    assert locked.post(f"/v1/score?key={key}&access_token={key}", json={}).status_code == 401


def test_a_key_beyond_its_rate_is_told_when_to_come_back_and_others_go_on(locked, presented):
    answers = [locked.post("/v1/score", json={}, headers=presented["slow"]) for _ in range(5)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert answers[-1].json()["type"] == "urn:sequela:problem:rate-limited"
    assert locked.post("/v1/score", json={}, headers=presented[Scope.SCORE]).status_code == 200


def test_a_service_that_others_can_reach_does_not_start_without_keys(scorer):
    for host in ("0.0.0.0", "::", "192.0.2.1", "ward.example"):
        with pytest.raises(ConfigError, match="keys must be given"):
            create_app(Settings(host=host), scorer)


def test_on_the_loopback_interface_no_key_is_asked_for_unless_there_are_some(scorer, tmp_path, presented):
    settings = Settings(trusted_hosts=("testserver",), keys=tmp_path / "keys.json", cache=tmp_path / "cache")
    with TestClient(create_app(settings, scorer)) as client:
        assert client.post("/v1/score", json={}).status_code == 401


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("api", False)],
)
def test_loopback_is_what_this_machine_alone_can_reach(host, expected):
    assert is_loopback(host) is expected


def test_a_wrong_rate_is_refused_at_the_start():
    with pytest.raises(ConfigError, match="rate must"):
        Access.of(Settings(rate_limit="many"))


def test_a_route_that_declares_nothing_is_open_to_nobody():
    router = APIRouter(route_class=GuardedRoute)

    @router.get("/forgotten")
    async def forgotten() -> None: ...

    @router.get("/open", openapi_extra=needs())
    async def everybody() -> None: ...

    app = FastAPI()
    app.include_router(router)
    client = TestClient(app)
    assert client.get("/forgotten").status_code == 403
    assert client.get("/open").status_code == 200
