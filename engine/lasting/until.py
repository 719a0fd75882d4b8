"""How far a run is to go: `--until t4/selection` stops where a team wants to look before it pays."""

import re

from liit.engine.run.planning import Plan
from liit.engine.run.status import STAGES

RESULTS = {
    **{stage: results[0] for stage, results in STAGES.items()},
    "profile": "profile",
    "clusters": "clusters.parquet",
    "selection": "selection.parquet",
    "adapter": "adapter",
    "evaluation": "evaluation.json",
}
"""The result of a timestep that each word is for."""


def named(until: str) -> str:
    """The result's name in the run folder. Raises ValueError for what is no stage of a timestep."""
    found = re.fullmatch(r"t(\d+)/(\w+)", until)
    if found is None or found[2] not in RESULTS:
        raise ValueError(f"--until {until}: name a timestep and one of {', '.join(RESULTS)}, such as t4/selection")
    return f"t{int(found[1]):02d}/{RESULTS[found[2]]}"


def reached(name: str, found: Plan, last: int) -> None:
    """Raises ValueError where a run, whose last timestep is this, would never come to the result."""
    beyond = int(name[1:].partition("/")[0]) > last
    if beyond or (found.verdicts and name not in found.verdicts):
        raise ValueError(f"--until: this run makes no {name}; its timesteps and strategies make others")
