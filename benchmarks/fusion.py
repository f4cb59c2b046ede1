"""A prepared ICU demo and a configuration in, what notes add to measurements out: one table over many hold-outs.

Every stay is held out twice: once with its patient, in one of five parts of the patients, and once with its hospital,
in one of five groups of hospitals with at least twenty deaths each. Of one fit come the rows: boosted trees on
measurements, networks on measurements, both, those that read notes, and all of them. Beside them stand networks that
read both at once (early, late and gated fusion), and TF-IDF with logistic regression on the same text, under the same
rule of what is excluded, alone and with its ranks averaged with those of the measurements' risks.

    python benchmarks/fusion.py COHORT --config configs/icu-demo-notes.toml --out FOLDER
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata

from benchmarks.machine import machine
from models.ensemble import MemberKind
from models.network import Reads
from models.note_sections import SectionRule
from models.notes import NoteFusion, NotesConfig
from models.record import to_plain
from models.stay import Floats, Ints
from pipelines.bootstrap import Resampling, draw_weights, interval
from pipelines.cohort import Cohort, read_cohort
from pipelines.combined import MemberLogits, calibrated, notes_weights
from pipelines.config import RunConfig, load_config
from pipelines.dataset import build_dataset
from pipelines.evaluate import judged_rows
from pipelines.held_folder import private_folder
from pipelines.labels import outcomes_of
from pipelines.member_weights import with_fitted_weights
from pipelines.members import Members, fit_members
from pipelines.metrics import discrimination
from pipelines.part_data import Dataset
from pipelines.split import Part, patient_folds, patient_fraction

KEY = "fusion"
LEAST_DEATHS = 20
TITLES = {
    "trees": "measurements alone: boosted trees",
    "networks": "measurements alone: networks",
    "signals": "measurements alone: both",
    "tfidf": "text alone: TF-IDF, logistic regression",
    "notes": "text alone: networks",
    "early": "one kind of network, early fusion",
    "late": "one kind of network, late fusion",
    "gated": "one kind of network, gated fusion",
    "ranks": "ranks of measurements and TF-IDF averaged",
    "fused": "measurements and notes, weighed on patients that no member saw",
}
ROWS = tuple(TITLES)
METRICS = ("auroc", "auprc")
# What notes are to add to: the same members without them, and what does best without them.
BESIDE = ("signals", "trees")


@dataclass(frozen=True)
class HoldOut:
    """Stays that are held out: positions in the cohort, and those that are learnt from."""

    kind: str
    number: int
    test: Ints
    learn: Ints


def hold_outs(cohort: Cohort, died: Floats, number: int) -> list[HoldOut]:
    """Parts of the patients, then groups of hospitals; nobody is on both sides of one."""
    column = cohort.stays.static_names.index("hospital")
    hospital = cohort.stays.static[:, column].astype(np.int64)
    of_stay = {"patients": patient_folds(cohort.patient_id, KEY, number), "hospitals": _groups(hospital, died, number)}
    found = []
    for kind, group in of_stay.items():
        for k in range(number):
            there = {cohort.patient_id[i] for i in np.flatnonzero(group == k)}
            known = np.array([patient in there for patient in cohort.patient_id])
            found.append(HoldOut(kind, k, np.flatnonzero(group == k), np.flatnonzero((group != k) & ~known)))
    return found


def _groups(hospital: Ints, died: Floats, number: int) -> Ints:
    """(stays,) group of every stay's hospital: hospitals in the order of a keyed hash, cut where deaths are even."""
    order = sorted(set(hospital.tolist()), key=lambda h: patient_fraction(KEY, f"hospital {h}"))
    deaths = np.array([died[hospital == h].sum() for h in order])
    # A hospital belongs to the group in which the middle of its deaths lies.
    middle = np.cumsum(deaths) - deaths / 2
    group_of = dict(zip(order, np.minimum(middle * number // deaths.sum(), number - 1).astype(int), strict=True))
    group = np.array([group_of[h] for h in hospital.tolist()], dtype=np.int64)
    fewest = min(died[group == k].sum() for k in range(number))
    if fewest < LEAST_DEATHS:
        raise SystemExit(f"every group of hospitals must have {LEAST_DEATHS} deaths, got {fewest:.0f}; ask for fewer")
    return group


def score(cohort: Cohort, config: RunConfig, held: HoldOut, folder: Path, *, joint: bool) -> dict[str, Floats]:
    """Risks of the held-out stays at their end, by row of the table; of `joint` rows alone, or of all others."""
    with private_folder(folder, "encoded-") as encoded:
        indices = {Part.TRAIN: held.learn, Part.TEST: held.test}
        data = build_dataset(cohort, config, encoded, say=lambda _: None, indices=indices)
        if joint:
            return {fusion.value: _joint_row(data, config, fusion, folder) for fusion in NoteFusion}
        found, members = _own_rows(data, config, folder)
    learn, test = (_texts(cohort, index, config.notes) for index in (held.learn, held.test))
    died = outcomes_of(cohort, config.task.outcome).value
    tfidf = _tfidf(learn, died[held.learn], test)
    patient = np.unique([cohort.patient_id[i] for i in held.test], return_inverse=True)[1]
    ranks = (rankdata(found["signals"]) + rankdata(tfidf)) / (2 * len(tfidf))
    more = {"tfidf": tfidf, "ranks": ranks, "label": died[held.test], "patient": patient.astype(np.float64)}
    return found | more | {"weights": np.array([spec.weight for spec in members.specs])}


def _own_rows(data: Dataset, config: RunConfig, folder: Path) -> tuple[dict[str, Floats], Members]:
    """The configuration's own members: all of them, and those of one kind."""
    members, logits = _fitted(data, config, folder)
    members = with_fitted_weights(members, logits, data, config)
    read = notes_weights(members.specs)
    trees = [s.weight if s.kind is MemberKind.TREES else 0.0 for s in members.specs]
    weights = {
        "trees": trees,
        "networks": [s - t for s, t in zip(read["without_notes"], trees, strict=True)],
        "signals": read["without_notes"],
        "notes": read["notes_alone"],
        "fused": [s.weight for s in members.specs],
    }
    return {name: _risks(logits, chosen, data, config) for name, chosen in weights.items()}, members


def _joint_row(data: Dataset, config: RunConfig, fusion: NoteFusion, folder: Path) -> Floats:
    """Networks that read measurements and notes at once, as many as there are folds."""
    one = replace(config.ensemble, members=config.ensemble.folds, variants=(), trees=False, fit_weights=False)
    notes = replace(config.notes, fusion=fusion)
    joint = replace(config, ensemble=one, notes=notes, network=replace(config.network, reads=Reads.ALL))
    members, logits = _fitted(data, joint, folder)
    return _risks(logits, [spec.weight for spec in members.specs], data, joint)


def _fitted(data: Dataset, config: RunConfig, folder: Path) -> tuple[Members, MemberLogits]:
    with private_folder(folder, "checkpoints-") as checkpoints:
        members = fit_members(data, config, folder=checkpoints)
    return members, MemberLogits.of(members, data)


def _risks(logits: MemberLogits, weights: Sequence[float], data: Dataset, config: RunConfig) -> Floats:
    """(stays,) risks of the held-out stays at their end."""
    scores = calibrated(logits, weights, data, config).scores.test
    return np.asarray(scores.risk[judged_rows(scores, config.task, 0), 0])


def _texts(cohort: Cohort, stays: Ints, notes: NotesConfig) -> list[str]:
    rule, own = SectionRule(notes.exclude, notes.exclude_lines), cohort.stays.select(stays)
    return [
        "\n".join(rule.kept(text) for text in own.note_text[begin:end])
        for begin, end in zip(own.note_offsets[:-1], own.note_offsets[1:], strict=True)
    ]


def _tfidf(learn: list[str], died: Floats, test: list[str]) -> Floats:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(sublinear_tf=True, min_df=5).fit(learn)
    model = LogisticRegression(max_iter=1000).fit(words.transform(learn), died)
    return np.asarray(model.predict_proba(words.transform(test))[:, 1])


def drawn(found: dict[str, Floats], row: str, seed: int) -> dict[str, tuple[float, Floats]]:
    """AUROC and AUPRC of one row: on all stays, and on every draw of patients, which are the same for all rows."""
    patient = found["patient"].astype(np.int64)
    statistic = discrimination(found["label"], found[row])
    whole = statistic(np.ones((1, len(patient))))
    draws = [statistic(w) for w in draw_weights(patient, int(patient.max()) + 1, Resampling(seed=seed))]
    return {m: (float(whole[m][0]), np.concatenate([d[m] for d in draws])) for m in METRICS}


def table(results: dict[tuple[str, int], dict[str, Floats]]) -> dict[str, object]:
    """Every row's figures on every hold-out and on their mean, and what it has before `BESIDE`, with intervals."""
    known = {
        (kind, k, row): drawn(found, row, seed=k)
        for (kind, k), found in results.items()
        for row in ROWS
        if row in found
    }
    facts: dict[str, object] = {}
    for kind in dict.fromkeys(kind for kind, _ in results):
        numbers = [k for other, k in results if other == kind]
        for row in (row for row in ROWS if (kind, numbers[0], row) in known):
            for metric in METRICS:
                own = [known[kind, k, row][metric] for k in numbers]
                fact: dict[str, object] = {"each": [_entry(*one) for one in own], "mean": _entry(*_mean(own))}
                for beside in BESIDE:
                    other = [known[kind, k, beside][metric] for k in numbers]
                    gain = [(a[0] - b[0], a[1] - b[1]) for a, b in zip(own, other, strict=True)]
                    fact[f"over_{beside}"] = _entry(*_mean(gain))
                    fact[f"over_{beside}_each"] = [_entry(*one) for one in gain]
                facts[f"{kind}/{row}/{metric}"] = fact
    return facts


def _mean(pairs: list[tuple[float, Floats]]) -> tuple[float, Floats]:
    return float(np.mean([value for value, _ in pairs])), np.mean([draws for _, draws in pairs], axis=0)


def _entry(value: float, draws: Floats) -> dict[str, float]:
    found = interval("", value, draws, 0.95) or {"value": value, "low": np.nan, "high": np.nan}
    return {name: round(float(found[name]), 4) for name in ("value", "low", "high")}


def lines(facts: dict[str, object]) -> list[str]:
    """The table for people, as Markdown."""
    out = []
    for kind in dict.fromkeys(name.split("/")[0] for name in facts):
        out += [f"held-out {kind}", "", "| | AUROC | gain | AUPRC | gain |", "|---|---|---|---|---|"]
        for row in (row for row in ROWS if f"{kind}/{row}/auroc" in facts):
            cells = [TITLES[row]]
            for metric in METRICS:
                fact = facts[f"{kind}/{row}/{metric}"]
                gain = _cell(fact["over_signals"], sign=True) if row != "signals" else ""  # type: ignore[index]
                cells += [_cell(fact["mean"]), gain]  # type: ignore[index]
            out.append(f"| {' | '.join(cells)} |")
        for metric, beside in ((metric, beside) for metric in METRICS for beside in BESIDE):
            fact = facts[f"{kind}/fused/{metric}"]
            told = [_cell(one, sign=True) for one in fact[f"over_{beside}_each"]]  # type: ignore[index]
            mean = _cell(fact[f"over_{beside}"], sign=True)  # type: ignore[index]
            out += ["", f"with notes less {TITLES[beside]}, {metric.upper()}: {mean}; each: {'; '.join(told)}"]
        out.append("")
    return out


def _cell(entry: dict[str, float], *, sign: bool = False) -> str:
    form = "{:+.3f} ({:+.3f} to {:+.3f})" if sign else "{:.3f} ({:.3f} to {:.3f})"
    return form.format(entry["value"], entry["low"], entry["high"])


def main() -> None:
    """Fits what is missing in the folder, and writes the table there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--config", type=Path, default=Path("configs/icu-demo-notes.toml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--number", type=int, default=5, help="parts of the patients, and groups of hospitals")
    parser.add_argument("--joint", action="store_true", help="also networks that read measurements and notes at once")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cohort, config = read_cohort(args.cohort), load_config(args.config, args.set)
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[tuple[str, int], dict[str, Floats]] = {}
    for held in hold_outs(cohort, outcomes_of(cohort, config.task.outcome).value, args.number):
        found = results.setdefault((held.kind, held.number), {})
        for joint in (False, True)[: 1 + args.joint]:
            found |= scored(cohort, config, held, args, joint=joint)
        shown = {row: round(drawn(found, row, 0)["auroc"][0], 3) for row in ROWS if row in found}
        print(
            f"{held.kind} {held.number + 1}: {len(held.test)} stays, {found['label'].sum():.0f} deaths, {shown}",
            flush=True,
        )
    facts_of = table(results)
    (args.out / "fusion.json").write_text(json.dumps({"machine": machine(), "figures": facts_of}, indent=1))
    text = "\n".join(lines(facts_of))
    (args.out / "fusion.md").write_text(text)
    print(text)


def scored(
    cohort: Cohort, config: RunConfig, held: HoldOut, args: argparse.Namespace, *, joint: bool
) -> dict[str, Floats]:
    """`score`, or what it gave before for the same configuration and cohort."""
    facts = [to_plain(config), cohort.fingerprint, held.kind, held.number, args.number, joint]
    kept = args.out / (hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24] + ".npz")
    if not kept.exists():
        found = score(cohort, config, held, args.out, joint=joint)
        np.savez(kept, **found)  # type: ignore[arg-type]
    with np.load(kept) as stored:
        return dict(stored)


if __name__ == "__main__":
    main()
