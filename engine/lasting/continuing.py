"""What a run that has begun is told now, and from which timestep on: the past stays as it was made.

The run folder's `config.yaml` says what it was told. A set of questions that is new holds from the next timestep on, one that
is gone held until then, and settings that an earlier command wrote down as holding from a timestep on go on to hold. What
`training.gate` said of adapters, by the sets and metrics of then, is said still. What comes of it is written to `config.yaml`
again, so that file alone makes the same run anew in an empty folder.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from liit.engine.data.stream import contents_of
from liit.engine.data.withdrawing import read_lines
from liit.engine.run.deciding import finished
from liit.engine.run.files import read_json
from liit.engine.run.planning import timestep_of
from liit.engine.run.progress import log
from liit.engine.run.storage.places import absolute
from liit.engine.settings.config import Config, ConfigError, read
from liit.engine.settings.phases import SECTIONS, Phases, flat, from_on, merged, why_fixed
from liit.engine.settings.streams import EvaluationSet, FileStream
from liit.engine.settings.training import MACHINE, Judged

ASKED = ("skill", "metric", "options", "max_new_tokens", "samples", "since", "until", "path")
"""Keys of an evaluation set that its questions do not depend on."""


def continued(config: Config, redo: int | None = None) -> Config:
    """The configuration with what the run in its output folder was told before.

    redo: what differs from before in strategy, scoring, clustering and training is to hold from this timestep on. Raises
    ConfigError for a difference that cannot.
    """
    root = Path(config.output)
    before = told_before(root)
    config = _withdrawals(config, before, next_timestep(root) if before else 0)
    config = config.model_copy(update={"verdicts": _verdicts(root, config, before)})
    if before is None:
        if redo is not None:
            raise ConfigError(f"--redo t{redo}: {root} is no run that has begun")
        return config
    config = _settings(config, before, redo)
    if not isinstance(config.stream, FileStream) or not isinstance(before.stream, FileStream):
        return config
    sets = _sets(config.stream.evaluations, before.stream.evaluations, next_timestep(root), root)
    stream = config.stream.model_copy(update={"evaluations": sets})
    return config.model_copy(update={"stream": FileStream.model_validate(stream.model_dump())})


def told_before(root: Path) -> Config | None:
    """What the run was told when it was last begun; None where there is none, or one of another version that says other
    things."""
    if not (root / "config.yaml").is_file():
        return None
    try:
        return read(root / "config.yaml", [])
    except ConfigError as error:
        log.warning("%s is of another version (%s): nothing is taken over from it", root / "config.yaml", error)
        return None


def _verdicts(root: Path, config: Config, before: Config | None) -> dict[int, Judged]:
    """What `training.gate` said, by timestep: those that the run has made, before those that it was told."""
    told = {**(before.verdicts if before else {}), **config.verdicts}
    for path in sorted(root.glob("t*/gate.json")):
        if (record := finished(path)) is not None:
            told[timestep_of(path.parent.name)] = Judged(of=record["fingerprint"], **read_json(path))
    return dict(sorted(told.items()))


def next_timestep(root: Path) -> int:
    """The first one whose pool is not finished."""
    t = 0
    while finished(root / f"t{t:02d}/pool.parquet") is not None:
        t += 1
    return t


def _withdrawals(config: Config, before: Config | None, t: int) -> Config:
    """With the lines of `pool.withdrawn` that no earlier command had, from timestep t on. Raises ValueError as `read_lines`
    does."""
    known = dict(config.pool.withdrawals or (before.pool.withdrawals if before else {}))
    said = {line for lines in known.values() for line in lines}
    lines = () if config.pool.withdrawn is None else read_lines(config.pool.withdrawn)
    new = tuple(line for line in lines if line not in said)
    if new:
        known[t] = (*known.get(t, ()), *new)
        log.info("%d more lines of %s hold from t%d on", len(new), config.pool.withdrawn, t)
    return config.model_copy(update={"pool": config.pool.model_copy(update={"withdrawals": known})})


def withdrawn_by(config: Config, t: int) -> Config:
    """With every line that is withdrawn at all withdrawn from timestep t on: of timesteps that are made now, or made anew."""
    known: dict[int, tuple[str, ...]] = {}
    for since, lines in sorted(config.pool.withdrawals.items()):
        known[min(since, t)] = (*known.get(min(since, t), ()), *lines)
    return config.model_copy(update={"pool": config.pool.model_copy(update={"withdrawals": known})})


def _settings(config: Config, before: Config, redo: int | None) -> Config:
    """With what holds from a timestep on by earlier commands; one that says `from={}` takes it all back."""
    old, new = _flat(before), _flat(config)
    if redo is not None:
        changes = {key: value for key, value in sorted(new.items()) if key not in old or old[key] != value}
        if fixed := [why for key in changes if (why := why_fixed(key))]:
            raise ConfigError(f"--redo t{redo}: {fixed[0]}; `--redo all` makes the whole run anew with it")
        told = from_on(merged(before.from_, config.from_), redo, changes)
        return _with(config, {name: getattr(before, name) for name in SECTIONS}, told)
    taken_back = "from_" in config.model_fields_set and not config.from_
    if not before.from_ or taken_back:
        return config
    told = merged(before.from_, config.from_)
    if told != config.from_:
        log.info("settings from t%s on are taken over from config.yaml", ", t".join(map(str, before.from_)))
    last = _flat(before.at(max(before.from_)))
    sections = {name: getattr(config, name) for name in SECTIONS}
    if new == last and new != old:  # the file says by now what was written down as holding from a timestep on
        sections = {name: getattr(before, name) for name in SECTIONS}
    return _with(config, sections, told)


def _with(config: Config, sections: dict[str, Any], told: Phases) -> Config:
    machine = {"training": config.training.model_dump(include=MACHINE)}
    ours = {name: one.model_copy(update=machine.get(name, {})) for name, one in sections.items()}
    return Config.model_validate(config.model_copy(update=ours).model_dump() | {"from": told})


def _flat(config: Config) -> dict[str, Any]:
    """The settings of the sections that may change during a run, by dotted key. How work is laid out on machines is none."""
    told = {name: getattr(config, name).model_dump(mode="json", exclude=set(MACHINE)) for name in SECTIONS}
    return flat(told)


def _sets(
    now: Sequence[EvaluationSet], before: Sequence[EvaluationSet], t: int, root: Path
) -> tuple[EvaluationSet, ...]:
    """The sets that are asked now, each with since when it has had its questions, and those that once kept theirs out of
    pools."""
    old = {one.name: one for one in before if one.until is None}
    gone = [one for one in before if one.until is not None]
    kept: list[EvaluationSet] = []
    for one in now:
        if one.until is not None or one.since:
            kept.append(one)  # it says so itself
            continue
        known = old.get(one.name)
        if known is not None and same_questions(one, known, root):
            kept.append(one.model_copy(update={"since": known.since}))
            continue
        kept.append(one.model_copy(update={"since": t}))
        if t:
            log.info("evaluation set %s keeps its questions out of the pool from t%d on", one.name, t)
    said = {one.key for one in kept}
    for known in (*gone, *old.values()):
        until = t if known.until is None else known.until
        if known.key not in said and until > known.since:
            kept.append(known.model_copy(update={"until": until}))
    return tuple(kept)


def same_questions(one: EvaluationSet, known: EvaluationSet, root: Path) -> bool:
    """Whether a set is read as it was, from the same file or from one of the same content."""
    ways = [each.model_dump(exclude=set(ASKED)) for each in (one, known)]
    if ways[0] != ways[1]:
        return False
    if one.path == known.path or absolute(one.path) == absolute(known.path):
        return True
    record = finished(root / f"exam/{known.key}.parquet") or {}
    return sorted(contents_of(one).values()) == sorted(record.get("files", {}).values())
