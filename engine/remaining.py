"""How much of a stage's long work is to be done yet: neither what was finished before it was stopped, nor answers that are there.

profile      samples in part files, of all that are planned
adapter      steps up to the last checkpoint, of all
generations  questions that have an answer of the same length from the same model, of all that are asked
"""

from collections.abc import Mapping
from typing import Any

from liit.engine.run.deciding import begun, finished, partial_of
from liit.engine.run.planning import Plan
from liit.engine.run.status import last_step, rows_of
from liit.engine.settings.config import Config
from liit.engine.settings.training import MACHINE


def remaining(config: Config, found: Plan, t: int, asked: Mapping[str, int]) -> dict[str, float]:
    """The share, 0 to 1, that is left of scoring, training and answering at timestep t; of a run that has not begun, all is.

    asked: `forecast.questions`.
    """
    if not found.verdicts:
        return {"score": 1.0, "train": 1.0, "evaluate": 1.0}
    return {
        "score": _scoring(found, f"t{t:02d}/profile"),
        "train": _training(config, found, f"t{t:02d}/adapter"),
        "evaluate": _answering(config, found, t, asked),
    }


def _scoring(found: Plan, name: str) -> float:
    """Of a pool that is scored whole; what is new of a strategy that scores nothing else is less than is said."""
    if not _to_do(found, name):
        return 0.0
    result, pool = found.root / name, (found.root / name).with_name("pool.parquet")
    if not _goes_on(found, name) or not pool.is_file():
        return 1.0
    return max(0.0, 1 - (rows_of(partial_of(result)) or 0) / max(rows_of(pool) or 0, 1))


def _training(config: Config, found: Plan, name: str) -> float:
    if not _to_do(found, name):
        return 0.0
    if not _goes_on(found, name, config.training.model_dump(include=MACHINE)):
        return 1.0
    every, last = config.training.checkpoint_every, last_step(found.root / name)
    return 1 - last["step"] // every * every / last["steps"] if last else 1.0


def _answering(config: Config, found: Plan, t: int, asked: Mapping[str, int]) -> float:
    """Of a timestep at which nothing is trained the answers are those of an earlier one."""
    name = f"t{t:02d}/generations.parquet"
    if not _to_do(found, name) or not asked or (t and f"t{t:02d}/adapter" not in found.verdicts):
        return 0.0
    extended = found.verdicts[name].state == "extended"
    known = _answered(config, finished(found.root / name) or {}) if extended else set()
    new = sum(count for of, count in asked.items() if of not in known)
    if _goes_on(found, name):
        new -= rows_of(found.root / f"{name}.partial.answers") or 0
    return max(0, new) / max(sum(asked.values()), 1)


def _answered(config: Config, record: Mapping[str, Any]) -> set[str]:
    """Sets whose questions a finished result with this record holds answers to, by their keys."""
    made_of, told = record.get("made_of", {}), record.get("settings", {})
    return {
        one.key
        for one in getattr(config.stream, "asked", ())
        if f"exam/{one.key}.parquet" in made_of and told.get(f"max_new_tokens.{one.name}") == one.max_new_tokens
    }


def _to_do(found: Plan, name: str) -> bool:
    return name in found.verdicts and found.verdicts[name].to_do


def _goes_on(found: Plan, name: str, layout: object = None) -> bool:
    """Whether what is there of a result in the making is made from the same, and laid out as it would be now."""
    known = begun(found.root / name)
    same_layout: bool = known.get("layout") == layout
    return same_layout and known.get("fingerprint") == found.marks()[name]


def answered_per_second(found: Plan) -> tuple[int, float] | None:
    """The first timestep of the run whose model was asked, and the answers a second of all its actors, their start included.

    Later ones may have been asked some questions only, or have taken over what an earlier one said. None where nobody was asked.
    """
    for result in sorted(found.root.glob("t[0-9][0-9]/generations.parquet")):
        seconds = float((finished(result) or {}).get("seconds", 0.0))
        rows = rows_of(result)
        if seconds and rows:
            return int(result.parent.name[1:]), rows / seconds
    return None
