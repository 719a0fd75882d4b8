"""Sums, lists to sort and syllogisms, drawn by the generators of `reasoning-gym` from its unpacked folder.

`python benchmarks/real/generated.py FOLDER SEED COUNT` writes them as JSON lines; `generated` runs that in a process of its own,
so that nothing of the package is imported here.
"""

import importlib
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

TASKS: dict[str, tuple[str, str, dict[str, int]]] = {
    "sums": ("arithmetic.chain_sum", "ChainSum", {"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 2}),
    "sorting": ("algorithmic.number_sorting", "NumberSorting", {"max_numbers": 6, "max_decimals": 0}),
    "syllogisms": ("logic.syllogisms", "Syllogism", {}),
}
"""Module, class and options by task."""
SORTED = "\nPlease follow"
"""Before a long instruction to write a Python list, which is left out: the numbers with commas are the answer."""


def draw(folder: Path, seed: int, count: int) -> list[dict[str, str]]:
    """Questions and answers of each task. Its packages are entered without their `__init__`, which import every game there is."""
    for name in ("", ".arithmetic", ".algorithmic", ".logic"):
        package = types.ModuleType(f"reasoning_gym{name}")
        package.__path__ = [str(folder / "reasoning_gym" / name.removeprefix("."))]
        sys.modules[package.__name__] = package
    drawn = []
    for task, (module, name, options) in TASKS.items():
        loaded: Any = importlib.import_module(f"reasoning_gym.{module}")
        entries = getattr(loaded, f"{name}Dataset")(getattr(loaded, f"{name}Config")(seed=seed, size=count, **options))
        for entry in entries:
            question, answer = entry["question"], entry["answer"]
            if task == "sorting":
                question, answer = question.partition(SORTED)[0], ", ".join(json.loads(answer.replace("'", '"')))
                question, answer = question.replace(".0", ""), answer.replace(".0", "")  # whole numbers
            drawn.append({"task": task, "question": question, "answer": answer})
    return drawn


def generated(folder: Path, seed: int, count: int) -> list[dict[str, str]]:
    """The same from another process. Raises CalledProcessError where it fails."""
    command = [sys.executable, str(Path(__file__).resolve()), str(folder), str(seed), str(count)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    return [json.loads(line) for line in done.stdout.splitlines()]


if __name__ == "__main__":
    place, first, how_many = sys.argv[1:]
    for row in draw(Path(place), int(first), int(how_many)):
        sys.stdout.write(json.dumps(row) + "\n")
