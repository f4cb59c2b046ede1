"""What each part of a recurrent model is worth: patient-wise folds of one cohort in, an ablation table out.

    python benchmarks/ablations.py --data FOLDER                      # Challenge 2012 set a, every row
    python benchmarks/ablations.py --cohort cohorts/2012a cohorts/2012b --folds 5 --seeds 1 2 3 4 5
    python benchmarks/ablations.py --only no-gaps --row "wide: network.hidden_size=128 training.max_epochs=6"
    python benchmarks/ablations.py --set training.max_epochs=6        # for every row, the base among them

Every row is the base configuration with one thing changed, fitted on all folds but one and judged on that one, for
every fold and seed. A figure is the mean over folds and seeds (± its standard deviation over seeds); beside it stand
the difference to the base and that difference's interval over draws of the patients of all folds, both rows met by
the same draws: it speaks of patients, not of seeds. The rows `<name> x N` average the logits of the row's N seeds and
are compared with `base x N`, and that one with the base. The Brier score is taken after a Platt calibration that was
fitted on the other folds' held-out scores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).parent))
from folds import Fit, Folds, Scored, score_folds, whole_cohort
from machine import machine

from models.cells import Cell
from models.stay import Floats, Ints
from pipelines.bootstrap import Resampling, draw_weights
from pipelines.config import load_config
from pipelines.metrics import Statistic, discrimination

BASE = "base"
METRICS = ("auroc", "auprc", "brier")
# Rows are about the network that [network] describes, whatever else the ensemble holds.
ONE_NETWORK = "ensemble={members = 1}"
STATISTICS = '"count","mean","min","max","first","trend"'
ROWS: dict[str, tuple[str, ...]] = {
    "no-running-statistics": ('encoding.features=["value","mask","gap"]',),
    "no-gaps": (f'encoding.features=["value","mask",{STATISTICS}]',),
    "no-target-replication": ("training.target_replication=0.0",),
    "no-weight-averaging": ("training.average_decay=0.0",),
    "mean-pooling": ("network.pooling=mean",),
    "max-pooling": ("network.pooling=max",),
    "attention": ("network.pooling=attention",),
    "no-curves": ("network.skip_pieces=0",),
    "linear-for-curves": ("network.skip_pieces=0", "network.skip=true"),
    "no-hidden-layer": ("network.head_layers=0",),
    "second-variant": (
        "network.hidden_size=16",
        "network.projection_size=32",
        "network.head_layers=2",
        "network.skip=true",
        "network.skip_pieces=0",
        "network.input_dropout=0.3",
        "training.max_epochs=20",
    ),
    "hourly-steps": ("encoding.width_h=1.0",),
    "two-layers": ("network.layers=2",),
    "class-weighting": ("training.positive_weight=4.0",),
    "next-value-head": ("training.auxiliary.next_value_weight=0.1",),
    "no-further-outcomes": ("training.auxiliary.outcomes=[]",),
    "length-of-stay-alone": ('training.auxiliary.outcomes=[{outcome="length_of_stay_d"}]',),
    "pre-training": ("pretraining.epochs=4",),
    "cell-rnn": (f"network.cell={Cell.RNN_TANH}",),
    "cell-lstm": (f"network.cell={Cell.LSTM}",),
    "cell-gru-d": (
        f"network.cell={Cell.GRU_D}",
        f'encoding.features=["value","mask","gap",{STATISTICS},"delta"]',
    ),
}


@dataclass(frozen=True)
class Row:
    """A configuration's held-out scores.

    Args:
        seeds: results by seed, each by fold.
    """

    seeds: list[list[Scored]]

    @property
    def averaged(self) -> Row:
        """The row whose logits are the mean over the seeds."""
        folds = []
        for scored in zip(*self.seeds, strict=True):
            mean = np.mean([s.logit for s in scored], axis=0)
            folds.append(Scored(scored[0].stay, scored[0].label, mean, sum(s.seconds for s in scored)))
        return Row([folds])


def main() -> None:
    args = _arguments()
    folds = Folds(tuple(args.cohort or [_prepared(args.data, args.folder)]), args.folds, args.fold_key)
    rows = _chosen_rows(args.only, args.row)
    fits = {name: _fits(name, overrides, args) for name, overrides in rows.items()}
    flat = [fit for group in fits.values() for fit in group]
    print(f"{len(flat)} networks: {len(rows)} rows, {len(args.seeds)} seeds, {args.folds} folds", flush=True)
    scored = iter(score_folds(folds, flat, args.folder, jobs=args.jobs, resume=args.resume))
    results = {name: Row([[next(scored) for _ in range(args.folds)] for _ in args.seeds]) for name in fits}
    if len(args.seeds) > 1:
        results |= {f"{name} x {len(args.seeds)}": row.averaged for name, row in results.items()}
    table = _table(results, _patients(folds), Resampling(args.draws))
    report = {
        "machine": machine(),
        "base": {"config": str(args.config), "set": args.set},
        "cohort": whole_cohort(folds.cohorts).fingerprint,
        "folds": args.folds,
        "fold_key": args.fold_key,
        "seeds": args.seeds,
        "draws": args.draws,
        "changed": {name: list(overrides) for name, overrides in rows.items()},
        "rows": table,
    }
    out = args.out or args.folder / "ablations.json"
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(_markdown(table), encoding="utf-8")
    print(_markdown(table))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", type=Path, nargs="+", help="prepared cohorts; default: Challenge 2012 set a")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SEQUELA_DATA", "data")))
    parser.add_argument("--config", type=Path, default=Path("configs/mortality-2012.toml"), help="of the base")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every row")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these rows (and base, and those of --row)")
    parser.add_argument("--row", action="append", default=[], metavar="'NAME: KEY=VALUE ...'", help="a further row")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--fold-key", default="ablations")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--draws", type=int, default=1000, help="of the patients, for the intervals")
    parser.add_argument("--resume", action="store_true", help="take results that --folder holds already")
    parser.add_argument("--folder", type=Path, default=Path("work/ablations"))
    parser.add_argument("--out", type=Path, help="JSON file; the table goes beside it as Markdown")
    args = parser.parse_args()
    if args.folds < 2:
        parser.error("--folds must be at least 2")
    args.folder.mkdir(parents=True, exist_ok=True)
    return args


def _prepared(data: Path, folder: Path) -> Path:
    """Challenge 2012 set a, prepared once."""
    from pipelines.prepare import prepare

    path = folder / "2012a"
    if not path.exists():
        source = data / "challenge2012"
        prepare("challenge2012", [source / "set-a.tar.xz"], out=path, outcomes=source / "Outcomes-a.txt")
    return path


def _chosen_rows(only: list[str] | None, extra: list[str]) -> dict[str, tuple[str, ...]]:
    unknown = sorted(set(only or ()) - {BASE, *ROWS})
    if unknown:
        raise SystemExit(f"--only must name rows of {', '.join(ROWS)}, got {', '.join(unknown)}")
    given = ROWS if only is None and not extra else {name: ROWS[name] for name in only or () if name != BASE}
    rows = {BASE: (), **given}
    for text in extra:
        name, colon, overrides = text.partition(":")
        if not colon or not overrides.split() or " " in name.strip():
            raise SystemExit(f"--row must be 'NAME: KEY=VALUE ...' with a name of one word, got {text!r}")
        rows[name.strip()] = tuple(overrides.split())
    return rows


def _fits(name: str, overrides: tuple[str, ...], args: argparse.Namespace) -> list[Fit]:
    """A row's fits, seed by seed and fold by fold."""
    return [
        Fit(name, fold, load_config(args.config, [ONE_NETWORK, *args.set, *overrides, f"seed={seed}"]))
        for seed in args.seeds
        for fold in range(args.folds)
    ]


def _patients(folds: Folds) -> Ints:
    """(stays,) number of every stay's patient."""
    _, index = np.unique(np.array(whole_cohort(folds.cohorts).patient_id), return_inverse=True)
    return index.astype(np.int64)


def _table(results: dict[str, Row], patient: Ints, resampling: Resampling) -> list[dict[str, Any]]:
    figures = {name: _figures(row, patient, resampling) for name, row in results.items()}
    table = []
    for name, row in results.items():
        values, drawn, by_seed = figures[name]
        together = f"{BASE}{name[name.rfind(' x ') :]}" if " x " in name else BASE
        against = figures[BASE if name == together else together]
        entry: dict[str, Any] = {"row": name, "seconds": float(np.mean([s.seconds for f in row.seeds for s in f]))}
        for metric in METRICS:
            entry[metric] = {"value": values[metric], "seeds": by_seed[metric] if len(row.seeds) > 1 else None}
            if name != BASE:
                gap = drawn[metric] - against[1][metric]
                low, high = np.nanquantile(gap, [0.025, 0.975])
                entry[metric]["difference"] = {
                    "value": values[metric] - against[0][metric],
                    "low": float(low),
                    "high": float(high),
                }
        table.append(entry)
    return table


def _figures(
    row: Row, patient: Ints, resampling: Resampling
) -> tuple[dict[str, float], dict[str, Floats], dict[str, float]]:
    """A row's figures: means over folds and seeds, the same on every draw, and their spread over seeds."""
    values: dict[str, list[float]] = {metric: [] for metric in METRICS}
    drawn: dict[str, Floats] = {metric: np.zeros(resampling.draws) for metric in METRICS}
    for scored in row.seeds:
        of_seed = dict.fromkeys(METRICS, 0.0)
        for fold, risk in zip(scored, _cross_calibrated(scored), strict=True):
            share = 1.0 / (len(scored) * len(row.seeds))
            for statistic in (discrimination(fold.label, fold.logit), _brier(fold.label, risk)):
                for metric, value in statistic(np.ones((1, len(fold.label)))).items():
                    of_seed[metric] += float(value[0]) / len(scored)
                for metric, found in _draws(statistic, patient[fold.stay], len(patient), resampling).items():
                    drawn[metric] += share * found
        for metric in METRICS:
            values[metric].append(of_seed[metric])
    means = {metric: float(np.mean(values[metric])) for metric in METRICS}
    return means, drawn, {metric: float(np.std(values[metric], ddof=len(row.seeds) > 1)) for metric in METRICS}


def _draws(statistic: Statistic, row_patient: Ints, patients: int, resampling: Resampling) -> dict[str, Floats]:
    """The statistic on every draw; draws are of all patients, so that folds, seeds and rows share them."""
    blocks = [statistic(weight) for weight in draw_weights(row_patient, patients, resampling)]
    return {metric: np.concatenate([block[metric] for block in blocks]) for metric in blocks[0]}


def _brier(label: Floats, risk: Floats) -> Statistic:
    square = np.square(risk - label)
    return lambda weight: {"brier": (weight @ square) / weight.sum(axis=1)}


def _cross_calibrated(scored: list[Scored]) -> list[Floats]:
    """(rows,) risks of every fold, calibrated on the held-out scores of the others."""
    risks = []
    for i, fold in enumerate(scored):
        others = [s for j, s in enumerate(scored) if j != i]
        logit, label = (np.concatenate([getattr(s, name) for s in others]) for name in ("logit", "label"))
        line = LogisticRegression(C=1e6).fit(logit[:, None], label)
        risks.append(line.predict_proba(fold.logit[:, None])[:, 1])
    return risks


def _markdown(table: list[dict[str, Any]]) -> str:
    lines = ["| row | " + " | ".join(f"{m} | difference to base" for m in METRICS) + " |"]
    lines.append("|---" * (1 + 2 * len(METRICS)) + "|")
    for entry in table:
        cells = [entry["row"]]
        for metric in METRICS:
            figure = entry[metric]
            spread = "" if figure["seeds"] is None else f" ± {figure['seeds']:.4f}"
            cells.append(f"{figure['value']:.4f}{spread}")
            gap = figure.get("difference")
            cells.append("" if gap is None else f"{gap['value']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
