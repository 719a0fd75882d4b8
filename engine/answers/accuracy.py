"""The accuracy matrix of a stream, accuracy_TS [timestep][skill] in percent, and what is read from it.

T + 1 rows: row 0 is the base model, row t the model after timestep t. S columns: skills.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Matrix = npt.NDArray[np.float64]
HIGHEST = 1000
"""Of CIDEr, the one value here that is above 100 when it is good."""


def accuracy_table(timesteps: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    """Rows t0, t1, ...; one column a skill, in the order of the first timestep; percent.

    Raises ValueError where there is no timestep or skill, where a timestep has other skills than the first, and for a
    value outside 0 to 100 (to 1000, since CIDEr is reported so).
    """
    if not timesteps or not timesteps[0]:
        raise ValueError("no accuracy to compute metrics from: at least one timestep and one skill are needed")
    skills = list(timesteps[0])
    for timestep, values in enumerate(timesteps):
        if set(values) != set(skills):
            raise ValueError(f"timestep {timestep} has skills {sorted(values)}, timestep 0 has {sorted(skills)}")
        for skill, value in values.items():
            if not 0 <= value <= HIGHEST:
                raise ValueError(f"timestep {timestep}, skill {skill}: {value} is not a percentage")
    rows = [[float(values[skill]) for skill in skills] for values in timesteps]
    return pd.DataFrame(rows, index=pd.Index([f"t{t}" for t in range(len(rows))], name="timestep"), columns=skills)


def summary(
    accuracy: pd.DataFrame,
    upper_bounds: Mapping[str, float] | None = None,
    taught: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Every figure of a stream from its `accuracy_table`; None where a figure is not defined.

    `taught`: the first timestep that teaches a skill (0: the base model had it), where the stream knows; for the other
    skills `half_risen` stands in. `upper_bounds`: each skill's best value in a sequential run, in percent. Raises
    ValueError for an upper bound or a `taught` that does not fit the table.
    """
    skills = [str(skill) for skill in accuracy.columns]
    accuracy_TS = accuracy.to_numpy(dtype=np.float64)
    taught_S = _taught(accuracy_TS, skills, taught or {})
    return {
        "average_accuracy": average_accuracy(accuracy_TS),
        "relative_gain": relative_gain(accuracy_TS, _bounds(skills, upper_bounds)) if upper_bounds else None,
        "forgetting_rate": forgetting_rate(accuracy_TS),
        "max_forgetting": max_forgetting(accuracy_TS),
        "backward_transfer": backward_transfer(accuracy_TS, taught_S),
        "forward_transfer": forward_transfer(accuracy_TS, taught_S),
        "gain_over_base": float((accuracy_TS[-1] - accuracy_TS[0]).mean()),
        "taught": dict(zip(skills, taught_S.tolist(), strict=True)),
    }


def average_accuracy(accuracy_TS: Matrix) -> float:
    """Mean over the skills after the last timestep (Adapt-∞, arXiv 2410.10636, section 5)."""
    return float(accuracy_TS[-1].mean())


def relative_gain(accuracy_TS: Matrix, bounds_S: Matrix) -> float:
    """100/S Σ_s P^T_s / U_s, U_s the best value of skill s in a sequential run (arXiv 2410.10636, section 5)."""
    return float(100 * (accuracy_TS[-1] / bounds_S).mean())


def forgetting_rate(accuracy_TS: Matrix) -> float:
    """100/(S·T) Σ_s Σ_t max(P^{t-1}_s - P^t_s, 0) / P^{t-1}_s: the mean relative drop of a step (arXiv 2410.10636).

    Recovery earns nothing. The denominator is at least one point, so that 0/0 is 0 and noise near zero stays small.
    0 for the base model alone.
    """
    if len(accuracy_TS) == 1:
        return 0.0
    return float(100 * _relative_drops(accuracy_TS).mean())


def _relative_drops(accuracy_TS: Matrix) -> Matrix:
    before_TS, after_TS = accuracy_TS[:-1], accuracy_TS[1:]
    return np.maximum(before_TS - after_TS, 0) / np.maximum(before_TS, 1)


def max_forgetting(accuracy_TS: Matrix) -> float | None:
    """Mean over skills of max_t P^t_s - P^T_s, in points: what He et al. (arXiv 2311.16206) call BWT, with its sign changed.

    The maximum has the last timestep in it, so a skill that ends at its best has lost nothing; that of Chaudhry et al. (arXiv
    1801.10112, eq. 3) has not, and what is learned last would make up for what is lost. None for the base model alone.
    """
    if len(accuracy_TS) == 1:
        return None
    return float((accuracy_TS.max(axis=0) - accuracy_TS[-1]).mean())


def recovered_share(accuracy_T: Matrix) -> float:
    """100 (P^T - P^{T-1}) / (max_{t<T} P^t - P^{T-1}): of what a skill had lost before the last timestep, what that brought back.

    NaN where nothing was lost; above 100 where the skill ends better than it ever was (after Adapt-∞, Fig. 9).
    """
    before, lost = accuracy_T[-2], accuracy_T[:-1].max() - accuracy_T[-2]
    return float(100 * (accuracy_T[-1] - before) / lost) if lost > 0 else float("nan")


def half_risen(accuracy_TS: Matrix) -> npt.NDArray[np.int64]:
    """Per skill, the first timestep at which it has half of its best value: an estimate of when it was taught.

    0 for what the base model has, however it falls and comes back later.
    """
    return (2 * accuracy_TS >= accuracy_TS.max(axis=0)).argmax(axis=0)


def backward_transfer(accuracy_TS: Matrix, taught_S: npt.NDArray[np.int64]) -> float | None:
    """Mean of P^T_s - P^τ_s in points, τ = `taught_S`, over the skills taught before the last timestep.

    BWT of Lopez-Paz and Ranzato (arXiv 1706.08840, eq. 3), with skills in the place of tasks: negative is forgetting.
    None where no skill was taught before the last timestep.
    """
    skills_K = np.flatnonzero(taught_S < len(accuracy_TS) - 1)
    if not len(skills_K):
        return None
    return float((accuracy_TS[-1, skills_K] - accuracy_TS[taught_S[skills_K], skills_K]).mean())


def forward_transfer(accuracy_TS: Matrix, taught_S: npt.NDArray[np.int64]) -> float | None:
    """Mean of P^{τ-1}_s - P^0_s in points, τ = `taught_S`: what earlier timesteps did for a skill not yet taught.

    FWT of Lopez-Paz and Ranzato (arXiv 1706.08840, eq. 4), with skills in the place of tasks and the base model in the
    place of a random one. Over the skills with τ ≥ 2, as for the others no timestep came before; None without any.
    """
    skills_K = np.flatnonzero(taught_S >= 2)
    if not len(skills_K):
        return None
    return float((accuracy_TS[taught_S[skills_K] - 1, skills_K] - accuracy_TS[0, skills_K]).mean())


def drop_table(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Per skill: base, best and final value, when it was best, its worst single step, and its forgetting rate."""
    accuracy_TS = accuracy.to_numpy(dtype=np.float64)
    steps_TS = np.diff(accuracy_TS, axis=0, prepend=accuracy_TS[:1])
    labels_T = accuracy.index.to_numpy()
    base_only = len(accuracy_TS) == 1
    return pd.DataFrame(
        {
            "base": accuracy_TS[0],
            "best": accuracy_TS.max(axis=0),
            "best_at": labels_T[accuracy_TS.argmax(axis=0)],
            "final": accuracy_TS[-1],
            "gain_over_base": accuracy_TS[-1] - accuracy_TS[0],
            "drop_from_best": accuracy_TS.max(axis=0) - accuracy_TS[-1],
            "worst_step": steps_TS.min(axis=0),
            "worst_step_at": labels_T[steps_TS.argmin(axis=0)],
            "forgetting_rate": 0.0 if base_only else 100 * _relative_drops(accuracy_TS).mean(axis=0),
        },
        index=pd.Index(accuracy.columns, name="skill"),
    )


def _taught(accuracy_TS: Matrix, skills: list[str], taught: Mapping[str, int]) -> npt.NDArray[np.int64]:
    last = len(accuracy_TS) - 1
    for skill, timestep in taught.items():
        if skill not in skills:
            raise ValueError(f"taught: no skill {skill!r} was evaluated; the skills are {', '.join(skills)}")
        if timestep < 0:
            raise ValueError(f"taught: skill {skill!r} at timestep {timestep}; it must be 0 or later")
    estimate_S = half_risen(accuracy_TS)
    # A skill whose release is still to come is untouched so far: T + 1 makes all that was seen count as before.
    known = [min(taught.get(skill, int(guess)), last + 1) for skill, guess in zip(skills, estimate_S, strict=True)]
    return np.array(known, dtype=np.int64)


def _bounds(skills: list[str], upper_bounds: Mapping[str, float]) -> Matrix:
    unknown = sorted(set(upper_bounds) - set(skills))
    if unknown:
        raise ValueError(f"upper_bounds: no skill {unknown[0]!r} was evaluated; the skills are {', '.join(skills)}")
    for skill in skills:
        if not upper_bounds.get(skill, 0) > 0:
            raise ValueError(f"upper_bounds: skill {skill!r} needs a value above 0, got {upper_bounds.get(skill)}")
    return np.array([upper_bounds[skill] for skill in skills], dtype=np.float64)
