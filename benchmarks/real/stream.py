"""The stream of items: what is held out, what may be looked at, and releases with copies and wrong answers, by a seed alone."""

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from real.items import Item

MIXTURE = Path(__file__).with_name("mixture.yaml")
AGAIN = "-again"
"""Ends the id of a copy."""
Row = dict[str, Any]


@dataclass
class Stream:
    """Rows as LLaVA JSON has them."""

    releases: dict[str, list[Row]] = field(default_factory=dict)
    held_out: dict[str, list[Row]] = field(default_factory=dict)
    """By skill."""
    targets: dict[str, list[Row]] = field(default_factory=dict)
    """By skill."""
    made: dict[str, list[str]] = field(default_factory=lambda: {"copies": [], "wrong": []})
    """Ids of rows that are exact copies of another, and of those whose answer is wrong."""


def mixture(path: Path = MIXTURE) -> dict[str, Any]:
    """What the stream is composed of."""
    told: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return told


def compose(items: Iterable[Item], told: dict[str, Any], seed: int, fits: Callable[[Item], bool]) -> Stream:
    """The whole stream of those items that fit. Same items, mixture and seed: same stream.

    Raises ValueError where a task has fewer items than the mixture asks for.
    """
    drawn = shuffled(items, seed, fits)
    stream, held, shown = Stream(), set[str](), set[str]()
    for skill, how in told["skills"].items():
        kept = [take_apart(task, drawn[task], count, held, shown) for task, count in how["held_out"].items()]
        stream.held_out[skill] = [asked(item, told["metrics"]) for each in kept for item in each]
    for skill, how in told["skills"].items():
        kept = [take_apart(task, drawn[task], told["targets"], shown, held) for task in how["held_out"]]
        stream.targets[skill] = [asked(item, told["metrics"]) for each in kept for item in each]
    left = {task: [item for item in each if item.source not in held | shown] for task, each in drawn.items()}
    earlier: list[Row] = []
    for position, (name, counts) in enumerate(told["releases"].items()):
        taught = [item for task, count in counts.items() for item in take(task, left, count)]
        rng = random.Random(f"{seed} {name}")
        noisy = told if position else {"copies": 0.0, "wrong": 0.0}
        rows = release(taught, drawn, noisy, earlier, rng, stream.made)
        stream.releases[name] = rows
        earlier = [*earlier, *rows]
    return stream


def shuffled(items: Iterable[Item], seed: int, fits: Callable[[Item], bool]) -> dict[str, list[Item]]:
    """Items by task, each question once, in an order that no other item has a part in."""
    questions: dict[tuple[str, str], Item] = {}
    for item in items:
        questions.setdefault((item.task, item.question), item)
    by_task: dict[str, list[Item]] = defaultdict(list)
    for item in sorted(questions.values(), key=lambda each: digest(f"{seed} {each.task} {each.question}")):
        if fits(item):
            by_task[item.task].append(item)
    return by_task


def digest(text: str) -> str:
    """The same text, the same digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def take_apart(task: str, items: Sequence[Item], count: int, here: set[str], elsewhere: set[str]) -> list[Item]:
    """So many items of different sources, none of which is elsewhere; those of sources that are here already come first."""
    by_source: dict[str, Item] = {}
    for item in sorted(items, key=lambda each: each.source not in here):
        if item.source not in elsewhere:
            by_source.setdefault(item.source, item)
    taken = list(by_source.values())[:count]
    if len(taken) < count:
        raise ValueError(f"{task} has {len(taken)} sources to keep apart, {count} are asked for: mixture.yaml")
    here.update(item.source for item in taken)
    return taken


def take(task: str, left: dict[str, list[Item]], count: int) -> list[Item]:
    """The next so many items of a task, which are then gone."""
    here = left.get(task, [])
    if len(here) < count:
        raise ValueError(f"{task} has {len(here)} items left for a release that asks for {count}: mixture.yaml")
    left[task] = here[count:]
    return here[:count]


def release(
    taught: list[Item],
    drawn: dict[str, list[Item]],
    noisy: dict[str, Any],
    earlier: list[Row],
    rng: random.Random,
    made: dict[str, list[str]],
) -> list[Row]:
    """The rows of a release in an order by chance: some answers made wrong, then some rows copied, of it or of earlier ones."""
    rng.shuffle(taught)
    spoiled = set(rng.sample(range(len(taught)), round(noisy["wrong"] * len(taught))))
    rows = []
    for index, item in enumerate(taught):
        answer = wrong(item, drawn[item.task], rng) if index in spoiled else item.answer
        rows.append(row(item, answer))
        if index in spoiled:
            made["wrong"].append(rows[-1]["id"])
    known = set(made["copies"]) | {name.removesuffix(AGAIN) for name in made["copies"]}
    originals = [each for each in (*earlier, *rows) if each["id"] not in known]
    for original in rng.sample(originals, round(noisy["copies"] * len(rows))):
        copy = {**original, "id": original["id"] + AGAIN}
        made["copies"].append(copy["id"])
        rows.insert(rng.randrange(len(rows) + 1), copy)
    return rows


def wrong(item: Item, alike: Sequence[Item], rng: random.Random) -> str:
    """An answer that is not right: another option, or the answer of another item of the task."""
    right = {item.answer, *item.references}
    answers = item.others or tuple(dict.fromkeys(each.answer for each in alike))
    return rng.choice([answer for answer in answers if answer not in right])


def row(item: Item, answer: str) -> Row:
    """A sample with its task."""
    turns = [{"from": "human", "value": item.question}, {"from": "gpt", "value": answer}]
    name = f"{item.task}-{digest(item.question)[:12]}"
    return {"id": name, "task": item.task, "conversations": turns}


def asked(item: Item, metrics: dict[str, str]) -> Row:
    """A sample that is asked, with all answers that count."""
    metric = item.metric or metrics.get(item.task)
    references = list(item.references) or [item.answer]
    return row(item, item.answer) | {"references": references} | ({"metric": metric} if metric else {})
