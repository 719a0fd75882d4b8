"""The rules that results are made by: a number that is raised whenever the same settings, data and versions give other results.

It is in every stage's fingerprint and record, in results.json and in the cells of comparisons. What was made before there was a
number was made by rules 1.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

RULES = 5
CHANGES: dict[int, str] = {
    2: "where a response begins and ends is decided by tokens, answers are judged by the field's own normalisations, "
    "published data is read in more shapes, pictures are turned upright, gradients are added in float32, rows that are not "
    "finite leave the pool, every byte of a model's weights counts, zero-order gradients of half precision move further, and the "
    "sketches of a fresh LoRA are of the one that training begins with",
    3: "batches are planned within the parts of a release, no longer over the whole pool",
    4: "a model answers with its adapter merged into its weights, equal prompts are answered once, and batches of questions are "
    "filled by tokens and by their own set's longest answer",
    5: "samples are trained on side by side, without padding, so dropout falls on other numbers, and sums are rounded otherwise",
}
"""What changed with each number, for the person whose earlier results are of another."""
PACKAGES = ("torch", "transformers", "peft", "deepspeed", "ray")


def rules_of(record: Mapping[str, Any]) -> int:
    """Of a stage's record, a results.json or a cell."""
    return int(record.get("rules", 1))


def changed_since(rules: int) -> str:
    """What has changed since results of these rules, in words; empty where nothing has."""
    return "; ".join(CHANGES[number] for number in sorted(CHANGES) if number > rules)


@cache
def versions() -> dict[str, str]:
    """Of the packages that results are made with; what is not installed is left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
