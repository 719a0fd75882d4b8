"""A stream of text alone: questions about the tables that ship with scikit-learn, and arithmetic (Adapt-∞, Table 8).

After t0, the base's own text tasks, come five releases: iris, wine, cancer, diabetes and arithmetic. Each asks for the class
of a row, and for one of its values. Rows are split once into training, target and evaluation (70, 15, 15 %); arithmetic
by the sum of its numbers. For language models: `digits-language` is the base's, without tower and projector.
"""

from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from liit.engine.data.digits import language
from liit.engine.data.digits.canvas import Split
from liit.engine.data.digits.evaluation import SkillSet
from liit.engine.data.digits.samples import Sample, composed
from liit.engine.data.digits.task import Scenes, Task, Turns, no_scene, pick

SHARES = {"training": 0.7, "target": 0.15, "evaluation": 0.15}
BASE = (language.ORDER, language.FACT, language.COMPARISON)


@dataclass(frozen=True)
class Table:
    """Rows of values under short names, and the class of each row."""

    name: str
    columns: tuple[str, ...]
    values_NC: np.ndarray
    class_N: np.ndarray


@cache
def _tables() -> tuple[Table, ...]:
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine  # as late as in `canvas`

    iris, wine, cancer = load_iris(), load_wine(), load_breast_cancer()
    diabetes = load_diabetes(scaled=False)
    level = np.where(diabetes.target > np.median(diabetes.target), "high", "low")
    return (
        Table("iris", ("sepal", "width", "petal", "breadth"), iris.data, iris.target_names[iris.target]),
        Table(
            "wine",
            ("alcohol", "acid", "flavour", "hue"),
            wine.data[:, [0, 1, 6, 10]],
            np.array([f"class {1 + one}" for one in wine.target]),
        ),
        Table(
            "cancer",
            ("radius", "texture", "area", "points"),
            np.c_[cancer.data[:, [0, 1]], cancer.data[:, 3] / 100, 100 * cancer.data[:, 7]],
            cancer.target_names[cancer.target],
        ),
        Table("diabetes", ("age", "mass", "pressure", "lipid"), diabetes.data[:, [0, 2, 3, 8]], level),
    )


def names() -> list[str]:
    """Of the six releases."""
    return ["language", *(table.name for table in _tables()), "arithmetic"]


def sets(split: Split = "evaluation") -> tuple[SkillSet, ...]:
    """What the base knows, then the five releases, asked about rows of this split."""
    own = [SkillSet(f"exam-{table.name}", table.name, "exact", 14, (_row_task(table, split),)) for table in _tables()]
    reckoning = SkillSet("exam-arithmetic", "arithmetic", "exact", 8, (_arithmetic(split),))
    return (SkillSet("exam-language", "language", "exact", 12, BASE), *own, reckoning)


def written(release: int, index: int, seed: int) -> Sample:
    """Sample `index` of a release."""
    tables = _tables()
    if release == 0:
        return composed(BASE[index % len(BASE)], names()[0], seed, index)
    task = _row_task(tables[release - 1], "training") if release <= len(tables) else _arithmetic("training")
    return composed(task, names()[release], seed, index)


@cache
def _rows(count: int, split: Split) -> np.ndarray:
    """Indices of the split's rows."""
    order = np.random.default_rng(count).permutation(count)
    ends = np.round(np.cumsum([0.0, *SHARES.values()]) * len(order)).astype(int)
    place = list(SHARES).index(split)
    return order[ends[place] : ends[place + 1]]


def _row_task(table: Table, split: Split) -> Task:
    return Task(table.name, no_scene, partial(_ask_row, table, split))


def _ask_row(table: Table, split: Split, rng: np.random.Generator, scenes: Scenes) -> Turns:
    row = int(rng.choice(_rows(len(table.class_N), split)))
    told = ", ".join(f"{name} {value:.1f}" for name, value in zip(table.columns, table.values_NC[row], strict=True))
    if rng.random() < 0.7:
        return [(f"{table.name}: {told}. Which class is it?", str(table.class_N[row]))]
    column = int(rng.integers(len(table.columns)))
    return [(f"{table.name}: {told}. What is the {table.columns[column]}?", f"{table.values_NC[row, column]:.1f}")]


def _arithmetic(split: Split) -> Task:
    return Task("arithmetic", no_scene, partial(_reckon, split))


def _reckon(split: Split, rng: np.random.Generator, scenes: Scenes) -> Turns:
    """Numbers of two digits; which split a pair is of, its sum says."""
    wanted = {"training": range(14), "target": range(14, 17), "evaluation": range(17, 20)}[split]
    while True:
        first, second = (int(number) for number in rng.integers(10, 50, size=2))
        if (first + second) % 20 in wanted:
            break
    options = (
        (f"What is {first} plus {second}?", str(first + second)),
        (f"Which is the largest of {first}, {second}?", str(max(first, second))),
        (f"What is {first + second} minus {second}?", str(first)),
    )
    return [pick(rng, options)]
