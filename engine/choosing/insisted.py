"""What a team insists on, as its settings say it: ids in files, shares in quotas; the mathematics is `selectors/insisting.py`."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from liit.engine.choosing.missing import UNKNOWN, lacking, say_missing, shown
from liit.engine.run.fingerprints import fingerprint
from liit.engine.run.progress import log
from liit.engine.settings import sections
from liit.engine.settings.config import Config, ConfigError, one_line
from liit.engine.settings.sections import Quotas
from liit.selectors import catalog
from liit.selectors.insisting import ALWAYS, Broken, Choose, Taken, Wishes, broken, indexed, insisting
from liit.selectors.protocol import Choice, Pool, Strategy


@dataclass(frozen=True)
class Insisted:
    """Ids that are always and never chosen, and bounds for data sets or tasks; falsy where there is nothing of these.

    Raises:
        ValueError: an id is in both.
    """

    always: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()
    quotas: Quotas | None = None

    def __post_init__(self) -> None:
        if both := sorted(self.always & self.never):
            raise ValueError(
                f"strategy.always and strategy.never both name {shown(both)}; take each out of one of them"
            )

    def __bool__(self) -> bool:
        return bool(self.always or self.never or self.quotas)

    def names(self) -> list[str]:
        """The data sets or tasks that have a bound."""
        return sorted({*self.quotas.least, *self.quotas.most}) if self.quotas is not None else []

    def of(self, ids: pa.ChunkedArray, tasks: Callable[[], pa.ChunkedArray]) -> Wishes:
        """The same of each sample of a pool, by its id; tasks: of these samples, null where one has none."""
        always_N, never_N = (
            pc.is_in(ids, pa.array(sorted(of), pa.string())).to_numpy() for of in (self.always, self.never)
        )
        names, quotas = self.names(), self.quotas
        if quotas is None:
            return Wishes(always_N, never_N, np.zeros(len(ids), np.int64), (Fraction(0),), (Fraction(1),))
        groups = data_sets(ids) if quotas.by == "dataset" else tasks()
        place = pc.fill_null(pc.index_in(groups, pa.array(names, pa.string())), len(names))
        least, most = (
            [Fraction(str(of.get(name, other))) for name in names]
            for of, other in ((quotas.least, 0), (quotas.most, 1))
        )
        return Wishes(always_N, never_N, place.to_numpy().astype(np.int64), (*least, Fraction(0)), (*most, Fraction(1)))

    def check_fits(self, strategy: Strategy, budget: int | None) -> None:
        """Raises ValueError where what is insisted on cannot be around a strategy; budget: in samples."""
        if self.quotas is not None and strategy.whole:
            raise ValueError(f"strategy {strategy.name} says itself how much it takes; quotas have no budget to share")
        if budget is not None and not strategy.whole and len(self.always) > budget:
            count = f"{len(self.always):,} samples are always chosen"
            raise ValueError(
                f"{count} (strategy.always), and the budget is {budget:,}; name fewer, or raise the budget"
            )

    def say_strange(self, ids: pa.ChunkedArray, name: str) -> None:
        """A line for ids that a profile, called `name`, has no usable sample of."""
        for key, named in ((ALWAYS, self.always), ("never", self.never)):
            if missing := lacking(named, ids):
                log.warning(
                    "%s: %d of %d ids are no usable samples of %s: %s",
                    key,
                    len(missing),
                    len(named),
                    name,
                    shown(missing),
                )

    def say_missing(self, ids: pa.ChunkedArray, t: int, last: int, timestep: Path, releases: list[Path]) -> None:
        """A line for ids that cannot be chosen at t, where their release is there; at the last timestep for all."""
        here = {release.stem.partition("-")[2] for release in releases}
        for name, named in ((ALWAYS, self.always), ("never", self.never)):
            missing = [one for one in lacking(named, ids) if t == last or one.partition("/")[0] in here]
            matters = () if name == ALWAYS else (UNKNOWN,)  # what has gone is not chosen anyway
            if missing:
                say_missing(f"t{t}, strategy.{name}", missing, len(named), timestep, releases, *matters)

    def say(self, choice: Choice, wishes: Wishes) -> None:
        """A line for each wish that a choice does not hold, and why."""
        left_out = int(wishes.always_N.sum() - wishes.always_N[choice.index_n].sum())
        if left_out:
            log.warning("strategy.always: %d of its samples are left out, the budget holds no more", left_out)
        if self.quotas is not None:
            for one in broken(choice, wishes):
                log.warning("%s", _told(one, self.quotas.by, self.names()[one.group], len(choice.index_n)))


NOTHING = Insisted()


def around(
    insisted: Insisted, choose: Choose, pool: Pool, wishes: Wishes | None, whole: bool, taken: Taken = indexed
) -> Callable[[int], Choice]:
    """A strategy's choice of so many samples of a pool, with what is insisted on; the strategy's own where that is nothing."""
    if wishes is None or not insisted:
        return lambda count: choose(pool, count)
    return insisting(choose, pool, wishes, whole=whole, taken=taken)


def insisted_on(strategy: sections.Strategy) -> Insisted:
    """What the settings of a strategy insist on, their files read. Raises ValueError naming a file or ids that cannot be used."""
    always, never = (
        ids_in(files, f"strategy.{name}") for name, files in ((ALWAYS, strategy.always), ("never", strategy.never))
    )
    return Insisted(always, never, strategy.quotas)


def quotas_of(values: Mapping[str, Any] | None) -> Quotas | None:
    """Quotas as a configuration has them. Raises ConfigError, one line, where they are not."""
    try:
        return None if values is None else Quotas.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"quotas: {one_line(error)}") from error


def ids_in(files: Sequence[str], key: str) -> frozenset[str]:
    """The sample ids of files: one per line, or the column `id` of Parquet. Raises ValueError, a line that begins with key."""
    found: set[str] = set()
    for file in files:
        try:
            found.update(_ids(Path(file)))
        except OSError as error:
            raise ValueError(f"{key}: {file}: {error.strerror or error}") from error
        except (KeyError, pa.ArrowException) as error:
            raise ValueError(f"{key}: {file} is no Parquet with a column `id` of text") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{key}: {file} is no text in UTF-8; write one id per line") from error
    return frozenset(found)


def _ids(file: Path) -> Collection[str]:
    if file.suffix == ".parquet":
        return pq.read_table(file, columns=["id"])["id"].cast(pa.string()).drop_null().to_pylist()
    return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def data_sets(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """The data set of each sample, with which its id begins."""
    return pc.list_element(pc.split_pattern(ids, "/", max_splits=1), 0)


def told(strategy: sections.Strategy, t: int) -> dict[str, Any]:
    """What the settings of a strategy say of the selection at t, for fingerprints: the ids of files and of another run's
    selection, not where they lie; and nothing of what is not insisted on."""
    paths, insisted = {"run", "always", "never", "quotas"}, insisted_on(strategy)
    of = strategy.model_dump(exclude={"pool_budget", "prune", "opening", *paths})
    for name, ids in ((ALWAYS, insisted.always), ("never", insisted.never)):
        of |= {name: fingerprint(sorted(ids))} if ids else {}
    of |= {"quotas": strategy.quotas.model_dump()} if strategy.quotas is not None else {}
    if strategy.run is None:
        return of
    from liit.engine.choosing.given import selected  # pandas, which a forecast of other strategies does without

    return of | {"given": fingerprint(sorted(selected(strategy.run, t)[0]))}


def check(config: Config, releases: Sequence[str]) -> Insisted:
    """What a configuration insists on, which its timesteps can hold; what lies in no release is said. releases: their names.

    Raises ValueError, one line, for files, ids, or shares that cannot be.
    """
    strategy, insisted = config.strategy, insisted_on(config.strategy)
    counted = strategy.unit == "samples" and strategy.lifetime is None
    insisted.check_fits(catalog.get(strategy.name), strategy.budget if counted else None)
    strange = [name for name in insisted.names() if name not in releases]
    if strange and insisted.quotas is not None and insisted.quotas.by == "dataset":
        raise ConfigError(f"strategy.quotas: {', '.join(strange)} is no release; releases are {', '.join(releases)}")
    for name, ids in ((ALWAYS, insisted.always), ("never", insisted.never)):
        elsewhere = sorted(one for one in ids if one.partition("/")[0] not in releases)
        if elsewhere:
            log.warning(
                "strategy.%s: %d of %d ids begin with no release: %s", name, len(elsewhere), len(ids), shown(elsewhere)
            )
    return insisted


def _told(one: Broken, by: str, name: str, count: int) -> str:
    if one.kind == "least":
        few = one.chosen == one.usable
        why = "there are no more" if few else "the strategy and what else is insisted on leave no room"
    elif one.always > one.bound:
        why = f"strategy.always names {one.always} of them"
    else:
        why = "of what else may be chosen there is no more"
    wanted = f"{one.bound:,} at {one.kind} were wanted"
    return f"strategy.quotas: {one.chosen:,} of {count:,} samples are of {by} {name}, {wanted}: {why}"
