"""The embedded stream on disk: LLaVA JSON and PNG files, as a user's own data would come.

`write_stream` makes, below its folder (or the releases and sets of `sequence.py` or `tabular.py`, by `settings.sequence`),

    releases/<name>.json      six releases (`releases.py` has the tasks and counts), about `settings.size` samples
    evaluations/<name>.json   fourteen sets, `settings.answers_per_skill` samples for each of seven skills
    targets/<name>.json       the same sets from digits of their own, 32 samples for each skill
    images/<name>/*.png       32×32 RGB

At size 3,000: t0 llava 500, t1 m3it 1500, t2 minigpt4 60, t3 mantis 300, t4 lamm 250, t5 visionflan 390; in all 90
samples with a wrong or cut answer, 150 near-duplicates within a release and 34 across (in m3it and visionflan, the
releases that share tasks with earlier ones). `settings.skew` makes large tasks larger and small ones smaller, and
`settings.reworded` gives every instruction of a release one of many wordings; evaluations and targets stay as they are.
Rare tasks (16 of 5 samples in t5, video and images-sum of 10, knowledge-element and reasoning-sum of 15) keep their share
at any size. Samples of a task that lie SCENE_POOL apart share their images, so a million samples take about a hundred
thousand files. The same settings give the same bytes.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from liit.engine.data.digits import sequence, tabular
from liit.engine.data.digits.canvas import Split, render
from liit.engine.data.digits.evaluation import SETS, TARGETS_PER_SKILL, SkillSet, shares
from liit.engine.data.digits.releases import RELEASES, Plan, plan_stream
from liit.engine.data.digits.samples import Drawing, Sample, held_out, released
from liit.engine.settings.streams import DigitsStream, EvaluationSet, FileStream, Release


def write_stream(folder: Path, settings: DigitsStream) -> FileStream:
    """Writes the whole stream below `folder` (made if need be, files replaced) and returns where everything is.

    Paths in the result are absolute. Memory stays at about 18 bytes a sample, whatever the size.
    """
    folder = folder.absolute()
    made = {"releases": _lifelong, "tasks": _in_turn, "text": _text}[settings.sequence](settings)
    releases = []
    for name, count, sample in made.releases:
        path = folder / "releases" / f"{name}.json"
        write_samples(folder, path, (sample(index) for index in range(count)))
        releases.append(Release(name=name, path=str(path), images=str(folder), samples=count))
    return FileStream(
        releases=tuple(releases),
        evaluations=tuple(
            _write_sets(folder, "evaluations", "evaluation", made.sets, settings.answers_per_skill, settings.seed)
        ),
        targets=tuple(_write_sets(folder, "targets", "target", made.targets, TARGETS_PER_SKILL, settings.seed)),
    )


class Made(NamedTuple):
    """What is to be written: of each release its name, size, and any sample by its index; evaluation and target sets."""

    releases: Sequence[tuple[str, int, Callable[[int], Sample]]]
    sets: tuple[SkillSet, ...]
    targets: tuple[SkillSet, ...]


def _lifelong(settings: DigitsStream) -> Made:
    plans = plan_stream(settings.size, settings.seed, settings.skew)
    of = [
        (release.name, len(plans[at].task_n), partial(_released, plans, at, settings.seed, settings.reworded))
        for at, release in enumerate(RELEASES)
    ]
    return Made(of, SETS, SETS)


def _released(plans: list[Plan], release: int, seed: int, other_words: bool, index: int) -> Sample:
    return released(plans, release, index, seed, other_words)


def _in_turn(settings: DigitsStream) -> Made:
    names = sequence.names(settings.joint)
    of = [
        (name, settings.size // len(names), partial(_turned, settings.joint, at, settings.seed))
        for at, name in enumerate(names)
    ]
    return Made(of, sequence.sets(settings.joint), sequence.sets(settings.joint))


def _turned(joint: bool, release: int, seed: int, index: int) -> Sample:
    return sequence.in_turn(joint, release, index, seed)


def _text(settings: DigitsStream) -> Made:
    names = tabular.names()
    of = [(name, settings.size // len(names), partial(_written, at, settings.seed)) for at, name in enumerate(names)]
    return Made(of, tabular.sets(), tabular.sets("target"))


def _written(release: int, seed: int, index: int) -> Sample:
    return tabular.written(release, index, seed)


def _write_sets(
    folder: Path, room: str, split: Split, sets: tuple[SkillSet, ...], per_skill: int, seed: int
) -> Iterator[EvaluationSet]:
    counts = shares(per_skill, sets)
    for one in sets:
        count = counts[one.name]
        if count == 0:
            continue
        prefix = "" if split == "evaluation" else "target-"
        path = folder / room / f"{one.name}.json"
        write_samples(folder, path, _set_samples(one, prefix + one.name, split, count, seed))
        yield EvaluationSet(
            name=prefix + one.name,
            path=str(path),
            images=str(folder),
            samples=count,
            skill=one.skill,
            metric=one.metric,
            max_new_tokens=one.max_new_tokens,
        )


def _set_samples(one: SkillSet, dataset: str, split: Split, count: int, seed: int) -> Iterator[Sample]:
    for index in range(count):
        yield held_out(one.tasks[index % len(one.tasks)], dataset, split, seed, index)


def write_samples(folder: Path, path: Path, samples: Iterable[Sample]) -> None:
    """One row a line inside a JSON list; an image that several samples share is drawn once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn: set[str] = set()
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for position, sample in enumerate(samples):
            file.write(",\n" if position else "\n")
            file.write(json.dumps(sample.row, ensure_ascii=False))
            for drawing in sample.drawings:
                if drawing.path not in drawn:
                    drawn.add(drawing.path)
                    _draw(folder, drawing)
        file.write("\n]\n")


def _draw(folder: Path, drawing: Drawing) -> None:
    path = folder / drawing.path
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(render(drawing.scene, drawing.brightness)).save(path, format="PNG")
