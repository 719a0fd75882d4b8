"""How far a run is, read from its folder alone: each result of each timestep, done, in the making, or to come.

Nothing here starts Ray or writes anything; a run may go on meanwhile.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import yaml

from liit.engine.run.deciding import begun, finished
from liit.engine.run.reading import Run
from liit.engine.run.storage.locks import held

State = Literal["done", "running", "stopped", "failed", "to come", "not needed"]
STAGES = {
    "pool": ("pool.parquet",),
    "score": ("profile",),
    "cluster": ("clusters.parquet",),
    "select": ("selection.parquet",),
    "train": ("adapter",),
    "evaluate": ("evaluation.json",),
    "prune": ("removed.parquet",),
}
"""A timestep's stages in their order, and the results that end them."""


@dataclass(frozen=True)
class Stage:
    """One stage of one timestep (None: of the whole run). seconds: of work so far, over all resumes. since: when its work began
    or went on, of one that is not done. note: rows or what it waits for."""

    timestep: int | None
    name: str
    state: State
    seconds: float = 0.0
    rows: int | None = None
    since: datetime | None = None
    note: str = ""


@dataclass(frozen=True)
class Status:
    """A whole run. alive: whether a process holds the folder now."""

    root: Path
    name: str
    releases: tuple[str, ...]
    stages: tuple[Stage, ...]
    alive: bool
    finished: bool

    @property
    def waiting(self) -> str:
        """What the run waits for, in words; empty for a finished one."""
        if self.finished:
            return ""
        for state in ("running", "failed", "stopped", "to come"):
            for stage in self.stages:
                if stage.state == state:
                    where = stage.name if stage.timestep is None else f"t{stage.timestep} {stage.name}"
                    return f"{where} ({stage.note})" if stage.note else where
        return "results.json, which the end of the run writes"


def status(root: str | Path) -> Status:
    """Raises ValueError, one line, for a folder that no run has begun in."""
    folder = Path(root)
    if not (folder / "config.yaml").is_file():
        raise ValueError(f"{folder}: no config.yaml, so this is no run folder")
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    names = tuple(Run(folder).releases) or tuple(
        f"release {t}" for t in range(6)
    )  # the embedded stream's, not yet composed
    alive, events = held(folder), _events(folder)
    stages = [_stage(folder, None, name, (name,), events, alive) for name in _of_the_run(folder, config, names)]
    for t in range(len(names)):
        stages += [_stage(folder, t, name, results, events, alive) for name, results in STAGES.items()]
    ended = (folder / "results.json").is_file() and not alive
    return Status(folder, str(config["name"]), names, tuple(_settled(stages, ended)), alive, ended)


def _of_the_run(folder: Path, config: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    own = [] if config["stream"]["kind"] == "files" else ["data"]
    releases = [f"releases/{t:02d}-{name}.parquet" for t, name in enumerate(names)]
    asked = [one for one in config["stream"].get("evaluations", ()) if one.get("until") is None]
    told = [f"exam/{one['name']}{f'@t{since:02d}' if (since := one.get('since', 0)) else ''}.parquet" for one in asked]
    there = [str(note.relative_to(folder))[: -len(".made.json")] for note in folder.glob("exam/*.parquet.made.json")]
    exams = told or sorted(name for name in there if not name.endswith(".queries.parquet"))
    return [*own, *releases, *exams]


def _events(folder: Path) -> dict[str, dict[str, Any]]:
    """The last line of every result in `stages.jsonl`; a line that a kill cut off is passed over."""
    events: dict[str, dict[str, Any]] = {}
    path = folder / "stages.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        events[event["result"]] = event
    return events


def _stage(
    folder: Path, t: int | None, name: str, results: tuple[str, ...], events: dict[str, dict[str, Any]], alive: bool
) -> Stage:
    of = results[0] if t is None else f"t{t:02d}/{results[0]}"
    path = folder / of
    record = finished(path)
    seconds = float((record or begun(path)).get("seconds", 0.0))
    if record is not None and path.exists():
        return Stage(t, name, "done", seconds, rows_of(path))
    if record is not None:
        return Stage(t, name, "done", seconds, note="its vectors were dropped, as keep_profiles says")
    event = events.get(of)
    if event is None or event["event"] == "finished":  # finished, and since removed by settings that do not need it
        return Stage(t, name, "to come")
    since = datetime.fromisoformat(event["time"]).astimezone(UTC)
    if event["event"] == "failed":
        return Stage(t, name, "failed", seconds, since=since, note=str(event.get("error", ""))[:200])
    return Stage(t, name, "running" if alive else "stopped", seconds, since=since, note=_progress(path))


def _progress(path: Path) -> str:
    """What is there of a result in the making: finished parts, or steps of a training."""
    if last := last_step(path):
        return f"step {last['step']} of {last['steps']}"
    parts = len(list(path.parent.glob(f"{path.name}.partial*/**/*.parquet")))
    return f"{parts} part files" if parts else ""


def last_step(path: Path) -> dict[str, Any]:
    """What a training in the making told last: `step`, of how many `steps`; empty where it has told nothing."""
    for file in path.parent.glob(f"{path.name}.work/*/progress.jsonl"):
        if lines := file.read_text(encoding="utf-8").splitlines():
            last: dict[str, Any] = json.loads(lines[-1])
            return last
    return {}


def rows_of(path: Path) -> int | None:
    """Rows of a table, from the footers."""
    if path.suffix == ".parquet" and path.is_file():
        return int(pq.read_metadata(path).num_rows)
    parts = sorted(path.glob("*.parquet")) if path.is_dir() else []
    return sum(int(pq.read_metadata(part).num_rows) for part in parts) if parts else None


def _settled(stages: list[Stage], finished: bool) -> list[Stage]:
    """A stage that is not there although a later one of its timestep is, is not needed by this run's strategy."""
    out = []
    for at, stage in enumerate(stages):
        later = [other for other in stages[at + 1 :] if other.timestep == stage.timestep]
        passed = finished or (stage.timestep is not None and any(other.state == "done" for other in later))
        if stage.timestep is None and stage.state == "to come":
            passed = any(other.timestep is not None and other.state == "done" for other in stages)
        out.append(Stage(stage.timestep, stage.name, "not needed") if stage.state == "to come" and passed else stage)
    return out
