"""Methods side by side: a run for every method and seed, and of each finished one a small JSON that is kept.

    comparison.yaml ─▶ cells ─run─▶ runs/<name>/<method>-s<seed>/ ─▶ <results>/<method>-s<seed>.json ─▶ tables (`contrast.py`)

A cell whose JSON is there is not run again, so the work can be done in pieces and on several machines. What depends on neither
method nor seed is done once: the releases, the evaluation of the base model, and the profile of the first pool for all methods
that need the same of it. Stages check by fingerprint that what they are handed is what they would make.
"""

import json
import os
import platform
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import Field, PositiveInt, ValidationError, model_validator

from liit.engine.comparison.sharing import adopt, passes, shares
from liit.engine.data.stream import open_stream
from liit.engine.main import begin, commit
from liit.engine.models.experts import Experts, is_experts
from liit.engine.run.files import appearing, read_json, write_json
from liit.engine.run.fingerprints import fingerprint
from liit.engine.run.progress import log
from liit.engine.run.reading import Run
from liit.engine.run.rules import RULES, rules_of
from liit.engine.run.store import Store, StoreError
from liit.engine.settings.base import Settings
from liit.engine.settings.config import Config, ConfigError, load, one_line, override
from liit.engine.settings.settling import settle
from liit.engine.settings.streams import FileStream

STAGES = {
    "scoring": ("profile",),
    "selection": ("clusters.parquet", "targets", "selection.parquet", "removed.parquet"),
    "holding": ("importance", "task.parquet", "pseudo-tasks.parquet", "looks", ".queries.parquet"),
    "training": ("adapter",),
    "evaluation": ("generations.parquet", "evaluation.json"),
}


class Comparison(Settings):
    """What is compared with what: a configuration, and the overrides that make each method of it."""

    config: str
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    methods: dict[str, dict[str, Any]] = Field(min_length=1)
    """Name to overrides (`dotted.key: value`); a method of the catalog is `{strategy: name}`."""
    fewer: dict[str, PositiveInt] = Field(default_factory=dict)
    """Methods that get fewer seeds than the others, and how many."""
    reference: str = "random"
    """Differences are to this one."""
    against: dict[str, str] = Field(default_factory=dict)
    """Further differences: a method, and which other one it is compared with."""
    upper: str = "sequential"
    """Whose best value of a skill relative gain is measured by."""
    recovers: str | None = None
    """The skill of which the last timestep is to bring back what the others lost (Adapt-∞, Fig. 9); losses are kept too."""
    labels: str = ""
    """What a reader has to know of the stream and of the methods' names."""
    command: str = "python jobs/compare.py"
    """What makes the cells, for whoever reads the page."""
    shown: tuple[str, ...] = ()
    """Methods in the picture of skills over time; empty for the first few."""

    @model_validator(mode="after")
    def _names_are_of_methods(self) -> "Comparison":
        for key, named in {
            "fewer": self.fewer,
            "shown": self.shown,
            "against": [*self.against, *self.against.values()],
        }.items():
            unknown = [name for name in named if name not in self.methods]
            if unknown:
                raise ValueError(f"{key}: {unknown[0]} is not among the methods")
        return self


@dataclass(frozen=True)
class Cell:
    """One run of the comparison."""

    method: str
    seed: int
    config: Config

    @property
    def name(self) -> str:
        return f"{self.method}-s{self.seed}"

    @property
    def settings(self) -> str:
        """A fingerprint of all that its result depends on. Settings at their defaults are left out: a new one changes none."""
        apart = {"name", "output", "resources", "estimate", "keep_profiles", "tracking"}
        return fingerprint(self.config.model_dump(exclude=apart, exclude_defaults=True))

    def passes(self) -> tuple[int, int]:
        """Forwards and backwards of a sample that is scored at the last timestep; none where nothing is."""
        return passes(self.config.at(self.config.stream.last))


def read_comparison(path: Path) -> Comparison:
    """Raises ConfigError, one line, for a file that is missing, no YAML mapping, or has unknown or unusable keys."""
    try:
        return Comparison.model_validate(load(path, "comparison"))
    except ValidationError as error:
        raise ConfigError(f"comparison {path}: {one_line(error)}") from error


def cells(comparison: Comparison, overrides: list[str], methods: list[str], seeds: list[int]) -> list[Cell]:
    """All cells in the order that they are run: every method with the first seed, then with the next.

    methods, seeds: only those; empty for all. Raises ConfigError for a method that is not in the comparison or cannot be run.
    """
    unknown = sorted(set(methods) - set(comparison.methods))
    if unknown:
        raise ConfigError(f"method {unknown[0]} is not in the comparison; it has {', '.join(comparison.methods)}")
    found = []
    if comparison.recovers is not None:
        overrides = ["evaluation.losses=true", *overrides]
    for seed in seeds or comparison.seeds:
        for method in methods or comparison.methods:
            if seed in comparison.seeds[comparison.fewer.get(method, len(comparison.seeds)) :]:
                continue
            own = [override(key, value) for key, value in comparison.methods[method].items()]
            config = settle([comparison.config, *overrides, *own, f"seed={seed}"], None)
            found.append(Cell(method, seed, config))
    return found


def kept(cell: Cell, results: Path) -> bool:
    """Whether the cell's JSON is there, by today's rules. Raises ConfigError where it was made from other settings."""
    path = results / f"{cell.name}.json"
    if not path.is_file():
        return False
    found = read_json(path)
    if rules_of(found) != RULES:
        log.info("%s is stale: of rules %d, today's are %d", path.name, rules_of(found), RULES)
        return False
    if found["settings"] != cell.settings:
        raise ConfigError(f"{path} was made from other settings; remove it, or name another folder with --results")
    return True


def same_settings(cell: Cell, results: Path) -> dict[str, Any] | None:
    """A finished cell of the same settings and today's rules in a folder, whatever its name; None where there is none."""
    found = (read_json(path) for path in sorted(results.glob("*-s*.json")))
    return next((one for one in found if one["settings"] == cell.settings and rules_of(one) == RULES), None)


def run_cell(cell: Cell, root: Path, results: Path, recovers: str | None = None) -> dict[str, Any]:
    """Run one cell below `root` and write its JSON. What an interrupted call left there is continued.

    recovers: as the comparison has it. Raises ConfigError where no evaluation set is of that skill.
    """
    from liit.engine.lifelong import run

    folder = root / cell.name
    given = _waited_for(root)
    try:
        stream = open_stream(cell.config, given)
    finally:
        given.close()
    skills = sorted({one.skill for one in stream.evaluations})
    if recovers is not None and recovers not in skills:
        raise ConfigError(f"recovers: no evaluation set is of the skill {recovers}; there are {', '.join(skills)}")
    if not folder.is_dir():
        adopt(folder, root, cell.config)
    config = cell.config.model_copy(update={"output": str(folder), "stream": stream, "name": cell.name})
    store = Store(folder)
    write_json(folder / "shares.json", shares(cell.config))
    begin(config, store)
    try:
        run(config, store)
    finally:
        store.close()
    found = _result(cell, stream, store)
    results.mkdir(parents=True, exist_ok=True)
    _set_aside(results / f"{cell.name}.json")
    write_cell(results / f"{cell.name}.json", found)
    for profile in folder.glob("t*/profile"):
        if profile.parent.name != "t01":  # others may need that one
            store.forget(f"{profile.parent.name}/profile")
    return found


def _set_aside(path: Path) -> None:
    """A stale cell moves to a folder of its rules: its figures are of code that was, and stay what they are."""
    if path.is_file():
        aside = path.parent / f"rules-{rules_of(read_json(path))}"
        aside.mkdir(exist_ok=True)
        path.rename(aside / path.name)


def write_cell(path: Path, found: dict[str, Any]) -> None:
    """A line for each entry: small, and a change can be read."""
    lines = [
        f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}" for key, value in found.items()
    ]
    with appearing(path) as temporary:
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _waited_for(root: Path) -> Store:
    """The comparison's folder, once no other cell composes the stream in it."""
    while True:
        try:
            return Store(root)
        except StoreError as error:
            if "in use" not in str(error):
                raise
            time.sleep(0.5)


def _result(cell: Cell, stream: FileStream, store: Store) -> dict[str, Any]:
    run = read_json(store.root / "results.json")
    count = len(run["releases"])
    seconds = {stage: _seconds(run["seconds"], names) for stage, names in STAGES.items()}
    notes = {t: store.root / f"t{t:02d}/profile.made.json" for t in range(count)}
    scored = {t: int(read_json(note)["scored"]) for t, note in notes.items() if f"t{t:02d}/profile" in run["seconds"]}
    each = {t: passes(cell.config.at(t)) for t in scored}
    last = store.root / f"t{count - 1:02d}/adapter"
    experts = {"experts": len(Experts.load(last).adapters())} if is_experts(last) else {}
    answers = [pq.read_table(store.root / f"t{t:02d}/answers.parquet").sort_by("id") for t in range(count)]
    sets = {one.name: one.skill for one in stream.evaluations}
    kinds = _kinds(Run(store.root))
    figures = {"answers": ("value", 1)} | ({"losses": ("loss", 4)} if cell.config.evaluation.losses else {})
    return {
        "method": cell.method,
        "strategy": cell.config.strategy.name,
        "seed": cell.seed,
        "budget": cell.config.strategy.budget,
        "settings": cell.settings,
        "rules": RULES,
        "commit": commit(),
        "date": date.today().isoformat(),
        "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        **{key: run[key] for key in ("releases", "samples", "accuracy", "parse_failures")},
        "scored": sum(scored.values()),
        "forwards": sum(rows * each[t][0] for t, rows in scored.items()),
        "backwards": sum(rows * each[t][1] for t, rows in scored.items()),
        "seconds": seconds,
        **experts,
        **({"kinds": kinds} if kinds else {}),
        "skills": sets,
        **{
            kind: {name: [_values(table.to_pylist(), name, *how) for table in answers] for name in sets}
            for kind, how in figures.items()
        },
    }


def _kinds(run: Run) -> list[dict[str, float]]:
    """How even each selection is over known tasks (`run/kinds.py`)."""
    rows = run.kinds.reset_index().to_dict("records")
    return [{str(name): float(value) for name, value in row.items()} for row in rows]


def _seconds(of: dict[str, float], names: tuple[str, ...]) -> float:
    """Of the stages with these names in all timesteps, and of what lies beside these or in a folder of that name."""
    parts = {name: name.partition("/") for name in of}
    mine = [name for name, (at, _, inside) in parts.items() if at in names or inside.endswith(names)]
    return round(sum(of[name] for name in mine), 1)


def _values(rows: list[dict[str, Any]], dataset: str, column: str, digits: int) -> list[float]:
    """Of every answer in the order of ids."""
    return [round(row[column], digits) for row in rows if row["dataset"] == dataset]
