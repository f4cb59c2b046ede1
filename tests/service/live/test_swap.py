"""Models that change while stays live: real servers follow an alias under load, go back at once, and refuse."""

import json
import threading
import time
from contextlib import closing

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.artifact import load_artifact
from models.artifact_folder import artifact_digest
from service.live.facts import Observation, Profile, StayFacts
from service.live.reading import Reader
from service.vocabulary import Vocabulary
from tests.service.damaged import damaged
from tests.service.live.served import PATIENCE_S, Served
from tests.service.registry import Registry

# Three looks that are each waited for with all patience, and the calls between them.
pytestmark = pytest.mark.timeout(4 * PATIENCE_S)
STAYS = [f"bed-{i}" for i in range(24)]
PROFILE = {"static": {"age": {"value": 63, "unit": "a"}}}


def offline(scorer, observations):
    """The risk that a fresh replay of these observations by this model ends with."""
    vocabulary = Vocabulary.of(scorer.bundle)
    reader = Reader(scorer.bundle, vocabulary, reads_notes=scorer.tokenizer is not None)
    facts = StayFacts(profile=Profile(None, PROFILE["static"]))
    facts.add(
        [
            Observation(None, o["channel"], o["value"], o["unit"], m, m)
            for o in observations
            for m in [round(60 * o["time_h"])]
        ]
    )
    return float(scorer.score(reader.stays(facts)).risk[-1, 0])


def figures(address):
    found = {}
    for family in text_string_to_metric_families(httpx.get(f"{address}/metrics").text):
        for sample in family.samples:
            found[sample.name, *sorted(sample.labels.values())] = sample.value
    return found


def settled_replays(address):
    """How many stays were folded anew aside, once those are that somebody was late for."""
    found = [figures(address)["sequela_replays_total", "swapped"]]
    deadline = time.monotonic() + PATIENCE_S
    while found[-20:] != found[-1:] * 20:
        assert time.monotonic() < deadline
        time.sleep(0.1)
        found.append(figures(address)["sequela_replays_total", "swapped"])
    return found[-1]


class Sender(threading.Thread):
    """Sends observations to stays, one after the other, and keeps what was answered."""

    def __init__(self, address, stays, *, pause_s=0.03):
        super().__init__(daemon=True)
        self.address, self.stays, self.pause_s = address, stays, pause_s
        self.sent = {stay: [] for stay in stays}
        self.answers = {stay: [] for stay in stays}
        self.statuses = []
        self.ending = threading.Event()
        self.client = httpx.Client(base_url=address, timeout=60)

    def admit(self):
        for stay in self.stays:
            assert self.client.put(f"/v1/stays/{stay}", json=PROFILE).status_code == 201
            self.send(stay)

    def send(self, stay, *, sometimes_late=False):
        number = len(self.sent[stay]) + 1
        # Every seventh comes late: its stay is folded anew, also aside.
        time_h = number / 4 - (1.1 if sometimes_late and number % 7 == 0 else 0)
        channel, value, unit = (("heart_rate", 70 + number % 40, "/min"), ("lactate", 1 + number % 5, "mmol/L"))[
            number % 2
        ]
        item = {"channel": channel, "time_h": round(time_h, 4), "value": value, "unit": unit}
        answer = self.client.post(f"/v1/stays/{stay}/observations", json={"observations": [item]})
        self.statuses.append(answer.status_code)
        if answer.status_code == 200:
            self.sent[stay].append(item)
            self.answers[stay].append(answer.json())
        return answer.json()

    def run(self):
        while not self.ending.is_set():
            for stay in self.stays:
                self.send(stay, sometimes_late=True)
                time.sleep(self.pause_s)

    def finish(self):
        self.ending.set()
        self.join()

    def close(self):
        self.client.close()


@pytest.fixture(scope="module")
def artifacts(make_artifact, tmp_path_factory):
    """Two models, and one that no longer gives its golden scores."""
    folder = tmp_path_factory.mktemp("swap")
    first = make_artifact(folder / "first", seed=1)
    return first, make_artifact(folder / "second", seed=2), damaged(folder / "damaged", first)


@pytest.fixture(scope="module")
def registry(artifacts, tmp_path_factory):
    """The three under the numbers 1, 2 and 3."""
    with Registry(tmp_path_factory.mktemp("registry") / "r") as registry:
        for number, folder in enumerate(artifacts, start=1):
            assert registry.register(folder, artifact_digest(folder)) == str(number)
        yield registry


def following(registry, folder, **environment):
    registry.point("champion", "1")
    return Served(
        "models:/mortality@champion",
        folder,
        MLFLOW_TRACKING_URI=registry.address,
        SEQUELA_WATCH_S="0.3",
        SEQUELA_KEEP_MIN="30",
        SEQUELA_RATE_LIMIT="1000000/second",
        SEQUELA_AUDIT=str(folder / "audit"),
        **environment,
    )


def versions(sender):
    return {stay: [answer["model"]["version"] for answer in found] for stay, found in sender.answers.items()}


def assert_states_are_fresh_replays(sender, scorer, version):
    """The next answer of every stay goes on from its state: it is what a replay of all its observations gives."""
    for stay in sender.stays:
        answer = sender.send(stay)
        assert answer["model"]["version"] == version
        assert answer["risk"] == pytest.approx(offline(scorer, sender.sent[stay]), abs=1e-6)


def events(folder):
    lines = [line for path in sorted((folder / "audit").glob("*.jsonl")) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def test_stays_follow_the_alias_under_load_go_back_at_once_and_a_broken_version_never_answers(
    registry, artifacts, tmp_path
):
    first, second = (load_artifact(folder) for folder in artifacts[:2])
    with following(registry, tmp_path) as served, closing(Sender(served.address, STAYS)) as sender:
        address = served.address
        sender.admit()
        sender.start()

        registry.point("champion", "2")
        served.wait_for(version="2", phase="keeping", aside="1")
        before = figures(address)
        sender.finish()
        assert set(sender.statuses) == {200}
        for told in versions(sender).values():
            assert told == sorted(told)
        assert_states_are_fresh_replays(sender, second, "2")
        assert before["sequela_replays_total", "swapped"] >= len(STAYS)
        whole = httpx.post(f"{address}/v1/score", json={"as_of_h": 1}).json()
        assert whole["model"]["version"] == "2"
        assert httpx.get(f"{address}/v1/model").json()["digest"] == second.digest

        replays = settled_replays(address)
        registry.point("champion", "1")
        served.wait_for(version="1", phase="keeping", aside="2")
        assert_states_are_fresh_replays(sender, first, "1")
        after = figures(address)
        assert after["sequela_replays_total", "swapped"] == replays
        assert (after["sequela_swaps_total", "switched"], after["sequela_swaps_total", "rolled_back"]) == (1, 1)

        registry.point("champion", "3")
        assert served.wait_for(refused="3")["version"] == "1"
        assert_states_are_fresh_replays(sender, first, "1")
        assert figures(address)["sequela_swaps_total", "refused"] == 1
        assert served.terminate() == 0
    told = [e["event"] for e in events(tmp_path) if e["event"] in ("swapped", "rolled_back", "model_refused")]
    assert told == ["swapped", "rolled_back", "model_refused"]


def test_a_version_that_is_tried_answers_nobody_until_its_time_is_over(registry, artifacts, tmp_path):
    second = load_artifact(artifacts[1])
    with (
        following(registry, tmp_path, SEQUELA_SHADOW_MIN="0.1") as served,
        closing(Sender(served.address, STAYS[:6], pause_s=0.05)) as sender,
    ):
        address = served.address
        sender.admit()
        sender.start()
        registry.point("champion", "2")
        assert served.wait_for(phase="shadow", aside="2")["version"] == "1"
        tried = len(sender.statuses)
        while len(sender.statuses) < tried + 60:
            time.sleep(0.02)
        body = {"observations": sender.sent[STAYS[0]], "static": PROFILE["static"]}
        assert httpx.post(f"{address}/v1/score", json=body).json()["model"]["version"] == "1"
        served.wait_for(version="2", phase="keeping", aside="1")
        sender.finish()
        assert set(sender.statuses) == {200}
        assert_states_are_fresh_replays(sender, second, "2")
        found = figures(address)
        assert found["sequela_shadow_difference_count", "2", "in_hospital_death"] > 20
        assert found["sequela_shadow_difference_sum", "2", "in_hospital_death"] > 0
    (shadowed,) = [e for e in events(tmp_path) if e["event"] == "shadowed"]
    assert shadowed["version"] == "2"
    assert shadowed["counts"]["compared"] > 20
