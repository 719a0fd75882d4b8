"""What a timestep leaves to the next: rows of the profile that are not made again, samples of the pool that stay."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt

from liit.engine.settings.base import Settings


class Refresh(Settings):
    """What is new is scored, and of every pseudo-task of the timestep before a sample again; those that moved are scored whole,
    the others keep their rows. Without pseudo-tasks it goes by data set."""

    share: float = Field(0.05, gt=0, le=1)
    """Of every pseudo-task, scored again to see whether it moved."""
    least: PositiveInt = 20
    """Samples of a pseudo-task that are scored again at least."""
    score_drift: float = Field(0.5, ge=0)
    """A pseudo-task moved where the mean of a score changed by so many of its standard deviations within it. 0: always."""
    vector_drift: float = Field(0.1, ge=0)
    """Or where the mean of a vector turned so far: one minus the cosine. 0: always."""
    max_age: PositiveInt = 4
    """Timesteps that a row may be old."""


class Pruning(Settings):
    """How a strategy that prunes cuts the pool to `pool_budget`."""

    shares: Literal["even", "selection"] = "even"
    """even: its strata shrink to one size, the largest first. selection: each keeps as much as the strategy would choose of it,
    were it to choose `pool_budget` samples."""
    keep: Literal["diverse", "hard", "representative"] = "diverse"
    """Of a stratum: what is least alike, what is far from the centroid, or what is near it. Exact copies go before."""


def _switched(value: Any) -> Any:
    """`true` for the defaults, `false` for none."""
    return ({} if value else None) if isinstance(value, bool) else value


Refreshing = Annotated[Refresh | None, BeforeValidator(_switched)]
