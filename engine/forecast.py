"""What a run will do and about what it will take, from stated throughputs; printed before anything starts."""

import json
import math
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from liit.engine.data.readers.formats import count, files_of, raw_rows
from liit.engine.run.storage.places import size_of
from liit.engine.settings.config import Config
from liit.engine.settings.streams import DigitsStream, Release
from liit.selectors import catalog


@dataclass(frozen=True)
class Step:
    """Forecast of one timestep. Hours are of one actor or worker each; wall time divides by their number."""

    release: str
    new: int
    pool: int
    profiled: int
    """Rows of its profile."""
    scored: int
    """Of these, by the model of the timestep; where rows may be kept, what is new and the sample that tells which."""
    tokens: float
    selected: int
    sketch_bytes: float
    scoring_hours: float
    training_hours: float
    scoring_seconds: float
    """Wall time, as the two below; of all actors and workers together."""
    training_seconds: float
    answering_seconds: float
    start_seconds: float

    @property
    def seconds(self) -> float:
        """Of the whole timestep."""
        return self.scoring_seconds + self.training_seconds + self.answering_seconds + self.start_seconds


def forecast(config: Config) -> list[Step]:
    """One Step per timestep. Raises ValueError for a release that is not here and does not state its `samples`, and for what a
    strategy is told that cannot be done: ids, quotas, another run."""
    rate, answers = config.estimate, sum(questions(config).values())
    steps: list[Step] = []
    pool, seen, kept, barred = 0, 0, 0, 0
    releases = list(_releases(config))
    told = _told(config, [name for name, _ in releases])
    for t, (name, new) in enumerate(releases):
        now, last = config.at(t), len(releases) - 1
        strategy = catalog.get(now.strategy.name, now.clustering.vector)
        learns = strategy.learns(t, last)
        budget, limit = _budget(now, last), now.strategy.pool_budget or 4 * now.strategy.budget
        pool, seen = pool + new, seen + new
        profiled = (new if strategy.newest else pool) if learns and (strategy.scores or strategy.vectors) else 0
        scored = _scored(now, new, profiled) if steps and steps[-1].profiled else profiled
        free, barred = new - told.never[name], barred + told.never[name]
        among = free if strategy.newest or now.strategy.options.get("newest") else pool - barred
        own = _chosen(strategy.name, budget, free, among, seen - barred, kept)
        chosen = told.given.get(t, own) if learns else 0
        kept += told.always[name]
        scoring = scored / rate.scored_per_second
        training = chosen * now.training.epochs / rate.trained_per_second
        actors, workers = config.resources.actor_count, now.training.workers
        wall = (scoring / actors, training / workers, answers / rate.answered_per_second / actors, rate.start_seconds)
        sketches = {"sketch": now.scoring.gradient, **now.scoring.sketches}
        sketch = profiled * 2.0 * sum(sketches[name].spec().size for name in strategy.vectors if name in sketches)
        tokens = chosen * now.training.epochs * rate.tokens_per_sample
        rows = (new, pool, profiled, scored)
        steps.append(Step(name, *rows, tokens, chosen, sketch, scoring / 3600, training / 3600, *wall))
        pool = min(pool, limit) if strategy.prunes and t else pool
    return steps


def _budget(config: Config, steps: int) -> int:
    """Samples that a timestep's budget buys, about; a lifetime is shared evenly here."""
    strategy = config.strategy
    budget = strategy.budget if strategy.lifetime is None else strategy.lifetime // max(steps, 1)
    if strategy.unit == "samples":
        return budget
    cost = config.estimate.tokens_per_sample
    if strategy.unit == "flops":
        from liit.engine.choosing.budget import flops_per_token  # torch takes seconds; other units need none

        cost *= flops_per_token(config)
    return int(budget / cost)


def _scored(config: Config, new: int, profiled: int) -> int:
    """Samples of a profile that are scored where there is one of the timestep before: what moves is not known beforehand."""
    rules = config.scoring.refresh
    return profiled if rules is None else new + math.ceil(rules.share * (profiled - new))


def _chosen(strategy: str, budget: int, new: int, among: int, seen: int, kept: int) -> int:
    """kept: how many that came earlier are always chosen."""
    replayed = (seen - new - kept) // 10
    whole = {"sequential": new + kept, "multi-task": seen, "random-replay": new + kept + replayed}
    return whole.get(strategy, min(budget, among))


@dataclass(frozen=True)
class _Told:
    """Samples by data set that are never and always chosen, and by timestep those that another run gives."""

    never: Counter[str] = field(default_factory=Counter)
    always: Counter[str] = field(default_factory=Counter)
    given: dict[int, int] = field(default_factory=dict)


def _told(config: Config, names: list[str]) -> _Told:
    strategy = config.strategy
    if not (strategy.always or strategy.never or strategy.quotas or strategy.run):
        return _Told()
    from liit.engine.choosing.given import given  # pandas, which takes a second; other strategies need none
    from liit.engine.choosing.insisted import check

    insisted = check(config, names)
    never, always = (Counter(one.partition("/")[0] for one in ids) for ids in (insisted.never, insisted.always))
    arrived = [{one for one in insisted.always if one.partition("/")[0] in names[: t + 1]} for t in range(len(names))]
    taken = {t: len(set(ids) - insisted.never | arrived[t]) for t, ids in given(config).items()}
    return _Told(never, always, taken)


def _releases(config: Config) -> Iterator[tuple[str, int]]:
    if isinstance(config.stream, DigitsStream):
        from liit.engine.data.digits.releases import (  # scikit-learn takes a second; files need none
            REFERENCE_SIZE,
            RELEASES,
        )

        if config.stream.sequence != "releases":
            from liit.engine.data.digits import sequence, tabular

            text = config.stream.sequence == "text"
            of = tabular.names() if text else sequence.names(config.stream.joint)
            yield from ((name, config.stream.size // len(of)) for name in of)
            return
        for own in RELEASES:
            yield own.name, sum(count for _, count in own.tasks) * config.stream.size // REFERENCE_SIZE
        return
    for release in config.stream.releases:
        yield release.name, release.samples or about(release)


def about(release: Release, first: int = 1000) -> int:
    """How many samples a release's files hold: counted where they are few, else from the size of the first rows."""
    known = count(release)
    if known is not None:
        return known
    rows = list(islice(raw_rows(release), first + 1))
    if len(rows) <= first:
        return len(rows)
    files = files_of(release)
    sound = [row for row in rows if not isinstance(row, ValueError)]  # a broken line of JSON lines comes as its error
    told = "\n".join(json.dumps(row, ensure_ascii=False, default=_unsaid) for row in sound).encode()
    if files[0].suffix in (".gz", ".zst", ".tgz"):
        told = zlib.compress(told)
    size = (len(told) + sum(_stored(row) for row in sound)) / max(len(sound), 1)
    return round(sum(size_of(file) for file in files) / max(size, 1))


def _unsaid(value: object) -> None:
    """Bytes have no place in JSON; `_stored` counts them."""


def _stored(value: object) -> int:
    """Bytes of images that a row holds."""
    if isinstance(value, dict | list):
        return sum(map(_stored, value.values() if isinstance(value, dict) else value))
    return len(value) if isinstance(value, bytes) else 0


def questions(config: Config) -> dict[str, int]:
    """How many questions of each evaluation set a model is asked, by the set's key; of the embedded stream, of all in one."""
    if isinstance(config.stream, DigitsStream):
        skills = {"releases": 7, "tasks": 8 if config.stream.joint else 6, "text": 6}[config.stream.sequence]
        return {"": skills * config.stream.answers_per_skill}
    return {one.key: one.limit or one.samples or about(one) for one in config.stream.asked}
