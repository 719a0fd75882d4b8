"""What the cells of a comparison need not do twice: linked from the folder of one that has done it.

Stages check by fingerprint that what they are handed is what they would make.
"""

import os
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from liit.engine.run.files import read_json, read_table, remove, write_table
from liit.engine.run.fingerprints import fingerprint
from liit.engine.settings.config import Config
from liit.selectors import catalog

if TYPE_CHECKING:
    from liit.engine.scoring.profile_spec import ProfilerSpec

SHARED = ("releases/**/*", "exam/**/*", "targets*", "targets*/**/*", "t00/*")
"""What no method or seed changes; and of the quarantines, what was found before any model was trained."""
FIRST = ("t01/pool*", "t01/copies*", "t01/profile*", "t01/profile/*", "t01/quarantine.parquet")
"""What methods share that profile the same: the first pool is profiled with the base model."""


def shares(config: Config) -> dict[str, Any]:
    """What others can tell by what this cell has for them: `shares.json` of its folder."""
    return {"first": _profiled(config), "past": _past(config)}


def passes(config: Config) -> tuple[int, int]:
    """Forwards and backwards of a scored sample with images, at most; none where nothing is scored."""
    spec = _spec(config)
    return spec.passes() if spec.scores or spec.vectors else (0, 0)


def _profiled(config: Config) -> str:
    """What the first profile depends on."""
    return fingerprint(repr(_spec(config.at(1))))


def _spec(config: Config) -> "ProfilerSpec":
    """What its strategy needs of a pool, by the base model."""
    from liit.engine.scoring.specification import profiler_spec

    strategy = catalog.get(config.strategy.name, config.clustering.vector)
    return profiler_spec(config, None, strategy.scores_for(config.strategy.options), strategy.vectors)


def _past(config: Config) -> list[str]:
    """What each timestep from t1 on is told, and depends on beside the data and the timestep before it."""
    return [_told(config.at(t)) for t in range(1, config.stream.last + 1)]


def _told(config: Config) -> str:
    strategy = catalog.get(config.strategy.name, config.clustering.vector)
    scored = [config.scoring, config.clustering] if strategy.scores or strategy.vectors else []
    always = (config.seed, config.model, config.pool, config.tasks)
    return fingerprint(*always, config.strategy, config.training, *scored)


def _in_common(past: Sequence[str], own: Sequence[str]) -> int:
    """How many timesteps from t1 on are told the same in two cells."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(past, own, strict=False)))


def adopt(folder: Path, root: Path, config: Config) -> None:
    """Links to what other cells have finished: the timesteps that the one which has most of them in common with this one begins
    with, the first profile of one that profiles the same, and of any one what all share."""
    partial = root / f".{folder.name}.partial"
    remove(partial)
    partial.mkdir()
    found = [note for note in root.glob("*/shares.json") if (note.parent / "t00/evaluation.json").exists()]
    newest = sorted(found, key=lambda note: note.stat().st_mtime, reverse=True)  # older ones may be of other settings
    others = [note.parent for note in newest]
    notes, mine = {other: read_json(other / "shares.json") for other in others}, shares(config)
    common = {
        other: _in_common(notes[other].get("past", ()), mine["past"])
        for other in others
        if (other / "results.json").is_file()
    }
    for other in sorted(common, key=lambda other: -common[other])[:1]:
        _link(other, partial, tuple(f"t{t:02d}/**/*" for t in range(1, common[other] + 1)))
    same = [other for other in others if notes[other]["first"] == mine["first"]]
    for other in [other for other in same if (other / "t01/profile").is_dir()][:1]:
        _link(other, partial, FIRST)
    for other in others[:1]:
        _link(other, partial, SHARED)
        for path in other.glob("t*/quarantine.parquet"):
            place = partial / path.relative_to(other)
            if not place.exists():
                place.parent.mkdir(exist_ok=True)
                rows = read_table(path)
                write_table(place, rows.filter(pc.not_equal(rows["stage"], "score")))
    partial.rename(folder)


def _link(source: Path, target: Path, patterns: tuple[str, ...]) -> None:
    """Hard links: results are replaced by renaming, never written to."""
    for path in [path for pattern in patterns for path in source.glob(pattern) if path.is_file()]:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            os.link(path, place)
