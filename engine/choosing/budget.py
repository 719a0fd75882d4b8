"""What a timestep may spend on training, in samples, tokens or FLOPs, and which samples that buys.

A budget that is not in samples asks the strategy for as many samples as cost no more; how much was spent is written down for
the timesteps after it, which share what a lifetime leaves (`selectors/schedule.py`).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import safe_open

from liit.engine.data.pool import lengths
from liit.engine.run.files import read_json, write_json
from liit.engine.settings.config import Config
from liit.selectors.protocol import Choice
from liit.selectors.schedule import allowance, searched, within

SPENT = "budget.json"


def spend(
    choose: Callable[[int], Choice],
    timestep: Path,
    t: int,
    timesteps: int,
    releases: list[Path],
    keys_N: np.ndarray,
    config: Config,
    whole: bool,
    insisted: bool = False,
) -> Choice:
    """What a strategy, as `choose(count)`, chooses with what its timestep can afford; the cost is written down.

    keys_N: of the pool that it chooses from. whole: the strategy's own definition says how much, not the budget. insisted:
    the choice holds what is insisted on for its own number of samples.
    """
    cost_N = costs(releases, keys_N, config)
    limit = allowed(timestep, t, timesteps, float(cost_N.sum()), config)
    if whole or config.strategy.unit == "samples":
        choice = choose(limit)
    else:
        choice = searched(limit, cost_N, choose) if insisted else within(limit, cost_N, choose, keys_N)
    spent = float(cost_N[choice.index_n].sum())
    write_json(timestep / SPENT, {"unit": config.strategy.unit, "allowed": limit, "spent": spent})
    return choice


def allowed(timestep: Path, t: int, timesteps: int, pool: float, config: Config) -> int:
    """The budget of a timestep: its own, or its share of what the timesteps before left of a lifetime."""
    strategy = config.strategy
    if strategy.lifetime is None:
        return strategy.budget
    notes = [timestep.with_name(f"t{earlier:02d}") / SPENT for earlier in range(1, t)]
    before = [read_json(note)["spent"] for note in notes if note.is_file()]  # without one, nothing was trained
    left = max(strategy.lifetime - int(np.ceil(sum(before))), 0)
    return allowance(int(pool), left, steps=timesteps - t, decay=strategy.decay)


def costs(releases: list[Path], keys_N: np.ndarray, config: Config) -> np.ndarray:
    """(N,) float64: what training on each sample costs in the unit of the budget."""
    if config.strategy.unit == "samples":
        return np.broadcast_to(1.0, len(keys_N))
    tokens = lengths(releases, keys_N).astype(np.float64)
    return tokens * (flops_per_token(config) if config.strategy.unit == "flops" else 1)


def flops_per_token(config: Config) -> float:
    """4 P per epoch: a forward, and a backward to the activations alone, since the weights are frozen."""
    return 4.0 * parameters(config.model.path) * config.training.epochs


def parameters(model: str) -> int:
    """Weights of a model folder, from the headers of its files. Raises ValueError where there are none."""
    from liit.engine.models import loading

    files = sorted(Path(loading.locate(model)).glob("*.safetensors"))
    if not files:
        raise ValueError(f"model {model}: no safetensors file here; a budget in FLOPs needs a local folder")
    count = 0
    for file in files:
        with safe_open(file, framework="numpy") as opened:
            count += sum(int(np.prod(opened.get_slice(name).get_shape())) for name in opened.keys())  # noqa: SIM118
    return count
