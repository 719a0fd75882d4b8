"""What a comparison found: figures of every cell, and differences with intervals from a bootstrap over answers and seeds.

Every method of a seed answers the same questions, so a resample takes the same questions and the same seeds for all methods, and
a difference is paired twice over (Efron & Tibshirani 1993, chapter 13: percentile intervals, here around the measured value).
Legend: B resamples, T timesteps, S skills, n answers of a data set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from liit.engine.answers.accuracy import (
    average_accuracy,
    forgetting_rate,
    half_risen,
    max_forgetting,
    recovered_share,
    relative_gain,
    summary,
)

RESAMPLES = 1000
LEVEL = 0.95
STEPWISE = ("forgetting_rate", "max_forgetting", "backward_transfer", "forward_transfer")
"""Figures that say nothing of a method which trains once, at the end."""


@dataclass(frozen=True)
class Contrast:
    """The finished cells of a comparison, as their JSON says."""

    found: Sequence[Mapping[str, Any]]
    reference: str
    upper: str
    recovers: str | None = None
    """The skill whose recovery by the last timestep is a figure too."""

    @cached_property
    def methods(self) -> dict[str, list[Mapping[str, Any]]]:
        """Cells by method, by seed."""
        ordered = sorted(self.found, key=lambda cell: cell["seed"])
        return {
            name: [c for c in ordered if c["method"] == name] for name in dict.fromkeys(c["method"] for c in self.found)
        }

    @cached_property
    def skills(self) -> list[str]:
        return list(self.found[0]["accuracy"][0])

    @cached_property
    def bounds(self) -> dict[str, float] | None:
        """Each skill's best value in a run of the upper method, mean over its seeds; None while there is none."""
        runs = [pd.DataFrame(cell["accuracy"]).max() for cell in self.methods.get(self.upper, [])]
        best = pd.DataFrame(runs).mean() if runs else None
        return None if best is None else {skill: max(float(best[skill]), 1.0) for skill in self.skills}

    @property
    def teacher(self) -> str:
        """The method whose runs say when a skill is taught: the upper one, else the reference."""
        return self.upper if self.upper in self.methods else self.reference

    @cached_property
    def taught(self) -> dict[str, int] | None:
        """When each skill is taught, the same for all methods: when the mean run of `teacher` has half of its best.

        None where there is none of it, and every cell's own is taken.
        """
        mean = self.over_time().get(self.teacher)
        if mean is None:
            return None
        return dict(zip(mean.columns, half_risen(mean.to_numpy(np.float64)).tolist(), strict=True))

    def over_time(self) -> dict[str, pd.DataFrame]:
        """The accuracy matrix of each method, mean over seeds."""
        tables = {name: [pd.DataFrame(cell["accuracy"]) for cell in own] for name, own in self.methods.items()}
        return {name: sum(own[1:], own[0]) / len(own) for name, own in tables.items()}

    def figures(self) -> pd.DataFrame:
        """A row for each cell: method, seed, its figures, its final values, its costs."""
        rows = []
        for name, own in self.methods.items():
            for cell in own:
                accuracy = pd.DataFrame(cell["accuracy"])
                spent = cell["seconds"]
                row = {"method": name, "seed": cell["seed"], **summary(accuracy, self.bounds, self.taught)}
                row |= dict.fromkeys(STEPWISE, np.nan) if _trained_once(cell) else {}
                if self.recovers is not None:
                    row |= self._shares(cell)
                row |= {skill: float(accuracy[skill].iloc[-1]) for skill in self.skills}
                row |= {f"{stage}_s": seconds for stage, seconds in spent.items()}
                row |= {name: cell.get(name, np.nan) for name in ("scored", "forwards", "backwards")}
                row |= {"experts": cell["experts"]} if "experts" in cell else {}
                row |= _last_kinds(cell)
                row["trained"] = sum(step.get("selection", 0) for step in cell["samples"])
                row["parse_failures"] = sum(cell["parse_failures"][-1].values())
                row["selecting_over_training"] = (spent["scoring"] + spent["selection"]) / max(spent["training"], 1e-9)
                rows.append(row)
        return pd.DataFrame(rows).drop(columns=["taught", *([] if self.bounds else ["relative_gain"])])

    @property
    def of_recovery(self) -> tuple[str, ...]:
        """The figures that say how much came back: by answers, and by losses where all cells have them."""
        if self.recovers is None:
            return ()
        return ("recovered", "recovered_loss") if all("losses" in cell for cell in self.found) else ("recovered",)

    def _shares(self, cell: Mapping[str, Any]) -> dict[str, float]:
        """For each of these figures the recovered share of every skill, and of the one that is to be recovered."""
        shares: dict[str, float] = {}
        for figure in self.of_recovery:
            matrix_TS = self._matrix(cell, figure)
            shares |= {f"{figure} {skill}": recovered_share(matrix_TS[:, at]) for at, skill in enumerate(self.skills)}
            shares[figure] = shares[f"{figure} {self.recovers}"]
        return shares

    def differences(self, to: Mapping[str, str] | None = None) -> pd.DataFrame:
        """A row for each method but the reference: what each figure differs by, with the ends of its interval.

        to: for every method that gets a row, which one it is compared with; None: all with the reference. Over the seeds that
        both have. Columns: method, seeds, and for each figure `<figure>`, `<figure>_low`, `<figure>_high` and
        `<figure>_seeds`: of how many seeds it is, which are fewer where it is not defined for all.
        """
        rows = []
        for name, other in (dict.fromkeys(self.methods, self.reference) if to is None else to).items():
            base = {cell["seed"]: cell for cell in self.methods.get(other, [])}
            pairs = [(cell, base[cell["seed"]]) for cell in self.methods.get(name, []) if cell["seed"] in base]
            if name != other and pairs:
                rows.append({"method": name, "seeds": len(pairs), **self._paired(pairs)})
        return pd.DataFrame(rows)

    def _paired(self, pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, float]:
        chance = np.random.default_rng(0)
        drawn = chance.integers(len(pairs), size=(RESAMPLES, len(pairs)))
        weights = _weights(pairs[0][0]["answers"], chance)
        out: dict[str, float] = {}
        once = any(_trained_once(cell) for pair in pairs for cell in pair)
        for figure in ("average_accuracy", "relative_gain", "forgetting_rate", "max_forgetting", *self.of_recovery):
            if figure == "relative_gain" and self.bounds is None:
                continue
            if figure in STEPWISE and once:
                out |= {figure: np.nan, f"{figure}_low": np.nan, f"{figure}_high": np.nan, f"{figure}_seeds": 0}
                continue
            apart_n = np.array(
                [
                    self._of(self._matrix(a, figure), figure) - self._of(self._matrix(b, figure), figure)
                    for a, b in pairs
                ]
            )
            by_pair = np.stack([self._boot(a, weights, figure) - self._boot(b, weights, figure) for a, b in pairs], 1)
            value, low, high = interval(apart_n, by_pair, drawn)
            out |= {figure: value, f"{figure}_low": low, f"{figure}_high": high}
            out[f"{figure}_seeds"] = int(np.isfinite(apart_n).sum())
        return out

    def _matrix(self, cell: Mapping[str, Any], figure: str) -> np.ndarray:
        """(T, S): what the figure is read from: values in percent, or losses in nats, negative so that more is better."""
        if figure != "recovered_loss":
            return np.array([[row[skill] for skill in self.skills] for row in cell["accuracy"]])
        even = {dataset: np.full((1, len(values[0])), 1 / len(values[0])) for dataset, values in cell["losses"].items()}
        return -self._resampled(cell, even, "losses")[0]

    def _resampled(self, cell: Mapping[str, Any], weights: Mapping[str, np.ndarray], kind: str) -> np.ndarray:
        """(B, T, S): means over each skill's data sets, of what weights (B, n) make of its answers' values or losses."""
        by_skill: dict[str, list[np.ndarray]] = {skill: [] for skill in self.skills}
        for dataset, values in cell[kind].items():
            by_skill[cell["skills"][dataset]].append(weights[dataset] @ np.array(values).T)
        return np.stack([np.mean(parts, axis=0) for parts in by_skill.values()], axis=2)

    def _of(self, accuracy_TS: np.ndarray, figure: str) -> float:
        if figure == "relative_gain":
            assert self.bounds is not None
            return relative_gain(accuracy_TS, np.array([self.bounds[skill] for skill in self.skills]))
        if figure in self.of_recovery:
            assert self.recovers is not None
            return recovered_share(accuracy_TS[:, self.skills.index(self.recovers)])
        if figure == "max_forgetting":
            return max_forgetting(accuracy_TS) or 0.0
        return forgetting_rate(accuracy_TS) if figure == "forgetting_rate" else average_accuracy(accuracy_TS)

    def _boot(self, cell: Mapping[str, Any], weights: Mapping[str, np.ndarray], figure: str) -> np.ndarray:
        """(B,): the figure for every resample of the answers."""
        lost = figure == "recovered_loss"
        matrix_BTS = self._resampled(cell, weights, "losses" if lost else "answers") * (-1 if lost else 1)
        return np.array([self._of(matrix_TS, figure) for matrix_TS in matrix_BTS])


def _trained_once(cell: Mapping[str, Any]) -> bool:
    """Whether nothing was learned before the last of several timesteps."""
    return len(cell["samples"]) > 2 and not any(step.get("selection", 0) for step in cell["samples"][:-1])


def interval(apart_n: np.ndarray, by_pair_Bn: np.ndarray, drawn_Bn: np.ndarray) -> tuple[float, float, float]:
    """Mean of n paired differences and the ends of its interval.

    by_pair_Bn: the differences in every resample of the answers. drawn_Bn: which pairs every resample of the seeds takes. Where a
    figure is not defined (nothing was lost, so no share of it came back) it is NaN: such pairs and resamples are left out.
    """
    known = np.isfinite(apart_n)
    if not known.all():
        apart_n, by_pair_Bn, left = apart_n[known], by_pair_Bn[:, known], int(known.sum())
        drawn_Bn = np.random.default_rng(1).integers(max(left, 1), size=(len(drawn_Bn), left))
    sound = np.isfinite(by_pair_Bn).all(axis=1)
    by_pair_Bn, drawn_Bn, n = by_pair_Bn[sound], drawn_Bn[sound], len(apart_n)
    if not n or not len(by_pair_Bn):
        return float("nan"), float("nan"), float("nan")
    means = by_pair_Bn.mean(1)
    over_seeds = np.take_along_axis(by_pair_Bn, drawn_Bn, 1).mean(1) - means
    # Resampling n seeds has (n - 1) / n of their variance; of one seed there is none to be seen.
    resampled = means + over_seeds * np.sqrt(n / (n - 1)) if n > 1 else means
    value = float(apart_n.mean())
    shift = value - float(resampled.mean())  # corpus BLEU is no mean of its answers' values
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) + shift
    return value, float(low), float(high)


def _weights(answers: Mapping[str, Sequence[Sequence[float]]], chance: np.random.Generator) -> dict[str, np.ndarray]:
    """(B, n) for each data set: how often each question is drawn, over n."""
    sizes = {dataset: len(values[0]) for dataset, values in answers.items()}
    return {dataset: chance.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n for dataset, n in sizes.items()}


def _last_kinds(cell: Mapping[str, Any]) -> dict[str, float]:
    """How even the last selection of a cell is over known tasks, of cells that say so."""
    last = (cell.get("kinds") or [{}])[-1]
    return {name: of for name, of in last.items() if name != "timestep"}
