"""A report's facts in, the TRIPOD+AI checklist out: what the software states, and what only its authors can.

Source: Collins et al. 2024, TRIPOD+AI statement: updated guidance for reporting clinical prediction models that use
regression or machine learning methods, BMJ 385:e078378. The items are named here in this project's own words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipelines.origin import first_source, updating

AUTHORS = "to be filled by the authors"

Facts = Mapping[str, Any]
Statement = Callable[[Facts], str]


def tripod_items(facts: Facts) -> list[dict[str, str]]:
    """Every item: `item` (its number), `topic`, `statement`, `by` (`software`, `software and authors`, `authors`)."""
    return [_item(number, topic, states, to_add, facts) for number, topic, states, to_add in _ITEMS]


def _item(number: str, topic: str, states: Statement | None, to_add: str, facts: Facts) -> dict[str, str]:
    if states is None:
        return {"item": number, "topic": topic, "by": "authors", "statement": AUTHORS}
    if not to_add:
        return {"item": number, "topic": topic, "by": "software", "statement": states(facts)}
    statement = f"{states(facts)} {to_add[0].upper()}{to_add[1:]}: {AUTHORS}."
    return {"item": number, "topic": topic, "by": "software and authors", "statement": statement}


def _title(facts: Facts) -> str:
    return f"{facts['name']}: a model of {facts['task']['description'] or facts['task']['outcome']}."


def _sources(facts: Facts) -> str:
    data, evaluated = first_source(facts["data"]), facts["evaluated"]
    return (
        f"Developed on {data.get('source', 'a source not stated')} ({data.get('licence', 'licence not stated')}), "
        f"evaluated on {evaluated['source']} ({evaluated['part']})."
    )


def _outcome(facts: Facts) -> str:
    task = facts["task"]
    return (
        f"{task['outcome']} ({task['kind']}, a label for each {task['scope']}); outputs: {', '.join(task['outputs'])}."
    )


def _predictors(facts: Facts) -> str:
    return (
        f"{len(facts['channels'])} measured channels ({', '.join(facts['channels'])}); limits and units in the bundle."
    )


def _missing(_: Facts) -> str:
    return (
        "Nothing is imputed from the future: what was last measured, whether and when are told to the model. "
        "Figures by density of measurement are in this report."
    )


def _partition(facts: Facts) -> str:
    parts = ", ".join(f"{name} {count:,} stays" for name, count in facts["data"].get("parts", {}).items())
    calibrated = facts["calibration"]["fitted_on"]
    return f"Split by patient with a keyed hash: {parts or 'no parts stated'}. Calibrated on {calibrated}."


def _handled(facts: Facts) -> str:
    encoding = facts["config"].get("encoding", {})
    features = ", ".join(encoding.get("features", [])) or "all features"
    return (
        f"Standardised with statistics of the training part, grid {facts['network'].get('grid')}; features: {features}."
    )


def _model(facts: Facts) -> str:
    network = "; ".join(f"{name}: {value}" for name, value in facts["network"].items())
    return f"{network}. The whole configuration is in this report."


def _clusters(facts: Facts) -> str:
    return _broken_down(facts, ("hospital", "icu_type", "unit_2019"))


def _measures(facts: Facts) -> str:
    draws, level = facts["intervals"]["draws"], facts["intervals"]["level"]
    return (
        "AUROC, AUPRC, Brier score, calibration slope and intercept, expected calibration error, net benefit, alerts "
        f"per patient-day, lead time and paired differences, as the task allows; {level:.0%} intervals from "
        f"{draws:,} draws of patients."
    )


def _updating(facts: Facts) -> str:
    calibration = facts["calibration"]
    other = updating(facts["data"]) or "No other updating"
    return f"{other}. Calibration: {calibration['method']}, fitted on {calibration['fitted_on']}."


def _calculated(_: Facts) -> str:
    return "The artifact scores every stay at every time step, by `sequela score` or the REST service."


def _imbalance(facts: Facts) -> str:
    weight = facts["config"].get("training", {}).get("positive_weight", 1.0)
    if weight == 1.0:
        return "No method against class imbalance was used."
    return f"Positive labels weighed {weight:g} times in the loss; calibration afterwards takes the weight back."


def _fairness(facts: Facts) -> str:
    shown = _broken_down(facts, tuple(name for name in _variables(facts) if name not in ("hospital",)))
    elsewhere = " Hospitals: item 12d." if "hospital" in _variables(facts) else ""
    return f"No constraint was put on the training; the smallest group is marked. {shown}{elsewhere}"


def _output(facts: Facts) -> str:
    thresholds = ", ".join(f"{name} {value:.4g}" for name, value in sorted(facts["thresholds"].items()))
    return f"Calibrated risks with thresholds chosen on the stays to calibrate on: {thresholds or 'none'}."


def _differences(facts: Facts) -> str:
    return f"Evaluated on {facts['evaluated']['part']}."


def _flow(facts: Facts) -> str:
    one = facts["evaluated"]
    return (
        f"{one['stays']:,} stays of {one['patients']:,} patients, {one['events']:,} with the event; "
        f"{one['unlabelled_stays']:,} without a known outcome are scored and not judged."
    )


def _code(facts: Facts) -> str:
    return f"Sequela, Apache-2.0; made with {', '.join(f'{n} {v}' for n, v in facts['versions'].items())}."


def _performance(facts: Facts) -> str:
    return f"In this report, every figure with its interval. {_broken_down(facts, tuple(_variables(facts)))}"


def _limits(facts: Facts) -> str:
    return " ".join(facts["limits"])


def _poor_input(_: Facts) -> str:
    return (
        "Values in unknown units or outside hard limits are refused and counted; a missing channel is told as "
        "missing; a stay without any observation has a score."
    )


def _expertise(facts: Facts) -> str:
    return f"{facts['disclaimer']}"


def _variables(facts: Facts) -> list[str]:
    tables: list[Facts] = next(iter(facts.get("subgroups", {}).values()), [])
    return [table["variable"] for table in tables]


def _broken_down(facts: Facts, names: tuple[str, ...]) -> str:
    tables: list[Facts] = next(iter(facts.get("subgroups", {}).values()), [])
    shown = [t["variable"] for t in tables if t["variable"] in names and "groups" in t]
    absent = [t["variable"] for t in tables if t["variable"] in names and "groups" not in t]
    words = [f"Broken down by {', '.join(shown)}."] if shown else []
    words += [f"Not recorded or not cut: {', '.join(absent)}."] if absent else []
    return " ".join(words) or "Not broken down."


_ITEMS: tuple[tuple[str, str, Statement | None, str], ...] = (
    ("1", "Title: model, population, outcome", _title, "the target population"),
    ("2", "Structured abstract", None, ""),
    ("3a", "Health care context and rationale", None, ""),
    (
        "3b",
        "Target population, purpose in the care pathway, intended users",
        lambda f: f["intended_use"],
        "the pathway",
    ),
    ("3c", "Known health inequalities", None, ""),
    ("4", "Objectives", lambda _: "Development with evaluation on patients that were held out.", "the study's aims"),
    ("5a", "Sources of data and how representative they are", _sources, "rationale and representativeness"),
    ("5b", "Dates of data collection", None, ""),
    ("6a", "Setting, number and place of centres", None, ""),
    ("6b", "Eligibility criteria", None, ""),
    ("6c", "Treatments received", None, ""),
    ("7", "Data preparation and quality checks", lambda _: "Rejected values by reason are in the cohort's report.", ""),
    ("8a", "Outcome, horizon and how it was assessed", _outcome, "assessment and rationale"),
    ("8b", "Who assessed the outcome, where subjective", None, ""),
    ("8c", "Blinding of the outcome's assessment", None, ""),
    ("9a", "Choice of initial predictors", lambda f: f"Chosen by configuration: {_predictors(f)}", "the rationale"),
    ("9b", "Definition and timing of predictors", lambda f: f"As of each time step alone. {_predictors(f)}", ""),
    ("9c", "Who assessed predictors, where subjective", None, ""),
    ("10", "Sample size", lambda f: f"{_partition(f)} {_flow(f)}", "justification"),
    ("11", "Missing data", _missing, ""),
    ("12a", "How data were used and partitioned", _partition, ""),
    ("12b", "How predictors were handled", _handled, ""),
    ("12c", "Type of model, building steps, tuning, internal validation", _model, "rationale and earlier tuning"),
    ("12d", "Heterogeneity across clusters", _clusters, ""),
    ("12e", "Measures and plots of performance", _measures, ""),
    ("12f", "Model updating", _updating, ""),
    ("12g", "How predictions were calculated", _calculated, ""),
    ("13", "Class imbalance", _imbalance, ""),
    ("14", "Fairness", _fairness, "further approaches"),
    ("15", "Output and thresholds", _output, "the rationale of the thresholds"),
    ("16", "Differences between development and evaluation data", _differences, "differences of setting"),
    ("17", "Ethical approval", None, ""),
    ("18a", "Funding", None, ""),
    ("18b", "Conflicts of interest", None, ""),
    ("18c", "Protocol", None, ""),
    ("18d", "Registration", None, ""),
    ("18e", "Availability of data", lambda f: f"Licence: {f['data'].get('licence', 'not stated')}.", "access"),
    ("18f", "Availability of code", _code, ""),
    ("19", "Patient and public involvement", None, ""),
    ("20a", "Flow of participants", _flow, "follow-up"),
    ("20b", "Characteristics of participants", _flow, "the table of characteristics"),
    ("20c", "Development against evaluation data", None, ""),
    ("21", "Participants and events in each analysis", lambda f: f"{_partition(f)} {_flow(f)}", ""),
    ("22", "Full specification of the model", lambda f: f"The artifact, digest {f.get('digest') or 'not stated'}.", ""),
    ("23a", "Performance with intervals, subgroups included", _performance, ""),
    ("23b", "Heterogeneity of performance across clusters", _clusters, ""),
    ("24", "Results of updating", _updating, ""),
    ("25", "Interpretation", None, ""),
    ("26", "Limitations", _limits, "limitations of the study"),
    ("27a", "Poor or missing input when used", _poor_input, ""),
    ("27b", "Interaction and expertise of users", _expertise, "the training of users"),
    ("27c", "Next steps for research", None, ""),
)
