"""results.json: the accuracy matrix and what is read from it, and what it cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from liit import __version__
from liit.engine.answers.accuracy import accuracy_table, drop_table, summary
from liit.engine.evaluation.gate import Verdict, told
from liit.engine.run.files import read_json, write_json
from liit.engine.run.reading import skill_values
from liit.engine.run.rules import RULES
from liit.engine.run.store import Made, Store
from liit.engine.settings.config import Config


def write_results(
    store: Store,
    config: Config,
    releases: Sequence[str],
    evaluations: Sequence[Made],
    verdicts: Sequence[Verdict] = (),
) -> dict[str, Any]:
    """Gather the evaluations of all timesteps; write and return the results of the run. verdicts: of `training.gate`."""
    answers = [read_json(made.path) for made in evaluations]
    results: dict[str, Any] = {
        "name": config.name,
        "strategy": config.strategy.name,
        "seed": config.seed,
        "version": __version__,
        "rules": RULES,
        "releases": list(releases),
        "samples": [counts(store.root / f"t{t:02d}") for t in range(len(releases))],
        "seconds": store.seconds(),
    }
    if answers and skill_values(evaluations[0].path):
        accuracy = accuracy_table([skill_values(made.path) for made in evaluations])
        failures = [
            {name: data["parse_failures"] for entry in step.values() for name, data in entry["datasets"].items()}
            for step in answers
        ]
        results |= {
            "accuracy": accuracy.to_dict(orient="records"),
            **summary(accuracy, config.upper_bounds or None),
            "per_skill": drop_table(accuracy).to_dict(orient="index"),
            "parse_failures": failures,
        }
        if any(phase.training.gate for phase in config.phases()):
            results["gate"] = told(verdicts)
        if config.evaluation.losses:
            results["losses"] = [{skill: entry["loss"] for skill, entry in step.items()} for step in answers]
    write_json(store.root / "results.json", results)
    return results


def counts(step: Path) -> dict[str, int]:
    """Rows of a timestep's tables: what came in, was quarantined, selected, removed."""
    present = [(name, step / f"{name}.parquet") for name in ("pool", "quarantine", "selection", "removed")]
    return {name: pq.read_metadata(path).num_rows for name, path in present if path.is_file()}
