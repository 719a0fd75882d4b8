"""What was scored again at a timestep, and why: `refresh.json`, and what is said of it. G groups."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from liit.engine.run.progress import log
from liit.selectors.refreshing import Drift

NAMED = 8
"""Groups that are named in a line."""


def written(
    t: int,
    why: Mapping[str, int],
    by: str,
    names: Sequence[str],
    counts: Sequence[np.ndarray],
    drifts: Mapping[str, Drift],
    stale_G: np.ndarray,
    models: Mapping[str, int],
) -> dict[str, Any]:
    """The content of `refresh.json`; a drift that nothing could be said of is null.

    why: how many samples, by reason. counts: (G,) samples of each group, those sampled, and those scored because it moved.
    models: by the column `model`, the last timestep that had this one.
    """
    groups = [
        {
            "group": name,
            "samples": int(counts[0][at]),
            "sampled": int(counts[1][at]),
            "moved": bool(stale_G[at]),
            "scored for it": int(counts[2][at]),
            "drift": {of: _finite(drift[at]) for of, drift in drifts.items()},
        }
        for at, name in enumerate(names)
    ]
    scored = sum(count for reason, count in why.items() if reason != "kept")
    return {
        "timestep": t,
        "samples": sum(why.values()),
        "scored": scored,
        "why": dict(why),
        "by": by,
        "groups": groups,
        "models": dict(models),
    }


def _finite(drift: np.float64) -> float | None:
    return round(float(drift), 6) if np.isfinite(drift) else None


def say(found: Mapping[str, Any]) -> None:
    """How many were scored and why, and what moved."""
    why, t, by = found["why"], found["timestep"], found["by"]
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in why.items() if count and reason != "kept")
    log.info("t%d: %s of %s samples scored: %s", t, f"{found['scored']:,}", f"{found['samples']:,}", reasons)
    moved = [one for one in found["groups"] if one["moved"]]
    log.info("t%d: %d of %d groups (%s) moved%s", t, len(moved), len(found["groups"]), by, _named(moved))


def _named(moved: Sequence[Mapping[str, Any]]) -> str:
    if not moved:
        return ""
    more = f" and {len(moved) - NAMED} more" if len(moved) > NAMED else ""
    return f": {', '.join(map(_told, moved[:NAMED]))}{more}"


def _told(group: Mapping[str, Any]) -> str:
    """A group with its drifts."""
    told = " ".join(
        f"{name} {'?' if drift is None else format(drift, '.2g')}" for name, drift in group["drift"].items()
    )
    return f"{group['group']} ({told})"
