"""How many scorings a stream takes where a timestep keeps rows of the one before (`scoring.refresh`), simulated.

    python benchmarks/refresh.py --run runs/digits-refresh [--json FILE]
    python benchmarks/refresh.py --refreshed 0.33

Sizes are those of a shipped configuration (`llava-1.5-7b.yaml`: the paper's stream). What moves is as measured: the share of what
stays that was in groups which moved, timestep by timestep, as the run's `refresh.json` files say; later timesteps go on with
the mean. About 50 groups move by chance, each of rows of one age; the rules are the configuration's own.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from liit.engine.run.files import write_json
from liit.engine.run.reading import open_run
from liit.engine.settings.config import read
from liit.engine.settings.refresh import Refresh
from liit.engine.settings.streams import FileStream

CONFIGS = Path(__file__).resolve().parent.parent / "jobs" / "configs"
GROUPS, TRIALS = 50, 200
console = Console(width=110)


@dataclass(frozen=True)
class Step:
    """Samples of a timestep, by why they are scored; mean over the trials."""

    timestep: int
    pool: float
    new: float
    sampled: float
    too_old: float
    moved: float

    @property
    def scored(self) -> float:
        return self.new + self.sampled + self.too_old + self.moved


def simulate(sizes: Sequence[int], rates: Sequence[float], rules: Refresh, seed: int) -> list[Step]:
    """Every timestep of a stream whose whole pool stays. sizes: samples of each release, t0's first, which is first scored at t1.
    rates: share of groups that move at t2, t3 and so on; the mean of them later.

    Groups are drawn anew at every timestep from rows of one age each, in proportion: rows of another age are another group.
    """
    chance, steps = np.random.default_rng(seed), []
    rows = np.array([[sizes[0] + sizes[1], 0.0]])  # of each group: samples, age of their rows
    steps.append(Step(1, float(rows[:, 0].sum()), float(rows[:, 0].sum()), 0, 0, 0))
    for t, new in enumerate(sizes[2:], 2):
        rate = rates[t - 2] if t - 2 < len(rates) else float(np.mean(rates))
        stays = rows[:, 0].sum()
        groups = np.array([part for row in rows for part in _split(row[0], row[1] + 1, stays)])
        size, age = groups.T
        old = age > rules.max_age
        asked = np.minimum(np.maximum(rules.share * size, rules.least), size)
        moves = (chance.random(len(groups)) < rate) & ~old
        too_old, moved = float((size - asked)[old].sum()), float((size - asked)[moves].sum())
        steps.append(Step(t, float(stays + new), float(new), float(asked.sum()), too_old, moved))
        kept = ~(old | moves)
        fresh = new + stays - (size - asked)[kept].sum()
        ages = {one: float((size - asked)[kept & (age == one)].sum()) for one in np.unique(age[kept])}
        rows = np.array([[fresh, 0.0], *([count, one] for one, count in ages.items())])
    return steps


def _split(samples: float, age: float, stays: float) -> Iterator[tuple[float, float]]:
    """Rows of one age as groups of about a GROUPS-th of what stays."""
    count = max(round(GROUPS * samples / stays), 1)
    yield from [(samples / count, age)] * count


def mean(trials: Sequence[list[Step]]) -> list[Step]:
    by_step = [[list(asdict(step).values()) for step in steps] for steps in zip(*trials, strict=True)]
    return [Step(int(values[0][0]), *np.mean(values, axis=0)[1:].tolist()) for values in by_step]


def measured(run: Path) -> list[float]:
    """The share of what stays that was in groups that moved, at each timestep. Raises SystemExit where nothing was refreshed."""
    found, rates = open_run(run), []
    for t in found.refreshed.index:
        groups = found.drift(int(t))
        rates.append(float(groups.loc[groups["moved"], "samples"].sum() / groups["samples"].sum()))
    if not rates:
        raise SystemExit(f"{run} has no refresh.json; run it with scoring.refresh=true")
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=str(CONFIGS / "llava-1.5-7b.yaml"), help="whose releases' sizes are taken")
    parser.add_argument("--run", type=Path, action="append", default=[], help="a measured run; several are averaged")
    parser.add_argument("--refreshed", type=float, nargs="+", help="share of groups that move, by timestep from t2 on")
    parser.add_argument("--max-age", type=int, help="in place of the configuration's")
    parser.add_argument("--json", type=Path)
    told = parser.parse_args()
    if bool(told.run) == bool(told.refreshed):
        parser.error("give either --run or --refreshed")
    config = read(told.config, [])
    rules = config.scoring.refresh or Refresh()
    rules = rules if told.max_age is None else rules.model_copy(update={"max_age": told.max_age})
    if not isinstance(config.stream, FileStream):
        parser.error(f"{told.config} states no sizes of releases")
    sizes = [release.samples or 0 for release in config.stream.releases]
    runs = [measured(run) for run in told.run]
    rates = told.refreshed or np.mean([one[: min(map(len, runs))] for one in runs], axis=0).tolist()
    steps = mean([simulate(sizes, rates, rules, seed) for seed in range(TRIALS)])

    table = Table(title=f"scorings, groups that move {', '.join(f'{rate:.2f}' for rate in rates)}")
    for column in ("t", "pool", "scored", "new", "sampled", "too old", "moved"):
        table.add_column(column, justify="right")
    for step in steps:
        counts = (step.pool, step.scored, step.new, step.sampled, step.too_old, step.moved)
        table.add_row(f"t{step.timestep}", *(f"{count:,.0f}" for count in counts))
    console.print(table)
    whole, scored = sum(step.pool for step in steps), sum(step.scored for step in steps)
    console.print(f"{scored / 1e6:.2f} M scorings in place of {whole / 1e6:.2f} M ({100 * scored / whole:.0f} %)")
    if told.json:
        settings = {"config": Path(told.config).name, "rates": rates, "rules": rules.model_dump()}
        steps_said = [asdict(step) | {"scored": step.scored} for step in steps]
        write_json(told.json, {**settings, "whole": whole, "scored": scored, "steps": steps_said})


if __name__ == "__main__":
    main()
