"""What a command will do, before it does it: every result that is kept, to be done, or would be made anew, and why."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from liit.engine.forecast import Step, forecast, questions
from liit.engine.remaining import answered_per_second, remaining
from liit.engine.run.deciding import Verdict, finished
from liit.engine.run.planning import Plan, timestep_of
from liit.engine.run.progress import duration, size
from liit.engine.run.status import STAGES
from liit.engine.run.store import Reached
from liit.engine.settings.config import Config
from liit.engine.settings.phases import why_fixed
from liit.engine.settings.streams import DigitsStream

OTHERS = {
    "generations.parquet": "evaluate",
    "importance": "train",
    "task.parquet": "train",
    "pseudo-tasks.parquet": "train",
}
STAGE_OF = {result: stage for stage, results in STAGES.items() for result in results} | OTHERS
"""The stage of a timestep's result, by its name in the folder."""
NAMED = 8
"""Results that are named in a line."""


def plan(config: Config, until: str | None = None) -> Plan:
    """The whole run walked through; nothing is done. Raises ValueError where a file of it cannot be read."""
    found = Plan(config.output, until)
    if not any(found.root.glob("*/*.made.json")):
        return found  # nothing is there, so all is to be done
    from liit.engine.lifelong import walk

    with suppress(Reached):  # as far as `until` says
        if not _composed_anew(config, found):
            walk(config, found)
    return found


def _composed_anew(config: Config, found: Plan) -> bool:
    """The embedded stream is another, so all that was made of it is made anew."""
    if not isinstance(config.stream, DigitsStream):
        return False
    found.make("data", lambda partial, clock: None, settings=config.stream.model_dump(exclude={"kind"}))
    if found.verdicts["data"].state == "kept":
        return False
    if found.verdicts["data"].supersedes:
        for note in sorted(found.root.glob("*/*.made.json")):
            name = str(note.relative_to(found.root)).removesuffix(".made.json")
            if finished(found.root / name) is not None and name.partition("/")[0] != "superseded":
                found.verdicts[name] = Verdict(name, "made anew", ("data is made anew",))
    return True


@dataclass(frozen=True)
class Timestep:
    """What becomes of one timestep: by stage, the most that is to be done of its results; and what that takes."""

    forecast: Step
    stages: dict[str, str]
    left: dict[str, float]
    """The share that is to be done of scoring, training and answering."""

    @property
    def seconds(self) -> float:
        """About, of what is to be done."""
        step = self.forecast
        whole = {"score": step.scoring_seconds, "train": step.training_seconds, "evaluate": step.answering_seconds}
        work = sum(seconds * self.left[stage] for stage, seconds in whole.items())
        return work + step.start_seconds if work else 0.0


def timesteps(config: Config, found: Plan) -> list[Timestep]:
    """The forecast of every timestep beside what is to be done of it."""
    order = ("kept", "goes on", "extended", "to do", "made anew")
    by_step: dict[int, dict[str, str]] = {}
    for name, verdict in found.verdicts.items():
        folder, _, result = name.partition("/")
        stage = STAGE_OF.get(result)
        if stage is None or not folder[1:].isdigit() or verdict.state == "set aside":
            continue
        mine = by_step.setdefault(int(folder[1:]), {})
        mine[stage] = max(mine.get(stage, "kept"), verdict.state, key=order.index)
    asked = questions(config) if found.verdicts else {}
    steps = enumerate(forecast(config))
    return [Timestep(step, by_step.get(t, {}), remaining(config, found, t, asked)) for t, step in steps]


def say(config: Config, found: Plan, console: Console) -> None:
    """The plan as a table: what each timestep holds, what is to be done of it, and about what that takes."""
    steps = timesteps(config, found)
    table = Table(title=f"{config.name}: {config.strategy.name}, T={config.strategy.budget}, seed {config.seed}")
    columns = (
        "",
        "release",
        "new",
        "pool",
        "train on",
        "Mtokens",
        "sketches",
        "scoring h",
        "training h",
        "answers h",
        "about",
        "to do",
    )
    for column in columns:
        table.add_column(column, justify="left" if column in ("", "release", "to do") else "right")
    for t, one in enumerate(steps):
        step = one.forecast
        table.add_row(
            f"t{t}",
            step.release,
            f"{step.new:,}",
            f"{step.pool:,}",
            f"{step.selected:,}",
            f"{step.tokens / 1e6:.2f}",
            size(step.sketch_bytes),
            f"{step.scoring_hours * one.left['score']:.2f}",
            f"{step.training_hours * one.left['train']:.2f}",
            f"{step.answering_seconds * config.resources.actor_count / 3600 * one.left['evaluate']:.2f}",
            duration(one.seconds),
            _told(one),
        )
    console.print(table)
    unit = "GPU" if config.resources.gpus_per_actor else "actor or worker"
    total = duration(sum(one.seconds for one in steps))
    console.print(
        f"Hours are {unit} hours at the stated throughput (`estimate`). About {total} in all → {config.output}"
    )
    for line in (*answering(config, found, steps), *reasons(found)):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def answering(config: Config, found: Plan, steps: Sequence[Timestep]) -> Iterator[str]:
    """How many answers a timestep has and how long they take, at the stated rate and at that of this run so far."""
    count = sum(questions(config).values())
    if not (count and steps):
        return
    line = (
        f"Answers: {count:,} a timestep, about {duration(steps[0].forecast.answering_seconds)} at the stated throughput"
    )
    if measured := answered_per_second(found):
        t, rate = measured
        line += f", about {duration(count / rate)} at the {rate:,.1f} a second that t{t} was answered with"
    yield line


def _told(one: Timestep) -> str:
    if not one.stages:
        return "all"
    doing = {stage: state for stage, state in one.stages.items() if state != "kept"}
    if not doing:
        return "kept"
    anew = [stage for stage, state in doing.items() if state == "made anew"]
    rest = [
        f"{stage} goes on" if state == "goes on" else stage for stage, state in doing.items() if state != "made anew"
    ]
    return ", ".join([*([f"anew: {' '.join(anew)}"] if anew else []), *rest])


def reasons(found: Plan) -> Iterator[str]:
    """Every result that is not kept though it is there, with why; those of the same reasons in a line."""
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for verdict in found.verdicts.values():
        if verdict.supersedes or verdict.state == "extended":
            alike.setdefault((verdict.state, verdict.reasons), []).append(verdict.name)
    for (state, why), names in alike.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        yield f"{', '.join(names[:NAMED])}{more}: {state}: {'; '.join(why)}"


def advice(found: Plan, config: Config) -> Sequence[str]:
    """What to do where finished results would be made anew, for a person who did not ask for it."""
    first = min(map(timestep_of, found.blocking), default=0)
    changes = [reason.partition(" ")[0] for name in found.blocking for reason in found.superseding[name]]
    fixed = dict.fromkeys(f"  {why}" for key in changes if (why := why_fixed(key)))
    settings = f"`--redo t{first}`" if first and not fixed else "`--redo all`"
    others = (
        "  a setting from a timestep on, `from.<t>.<key>=<value>`: what was made before it stays",
        f"  `liit fork {config.output} --at <t> --output <folder>`: another run, that shares its past with this one",
    )
    return (
        f"{len(found.blocking)} finished results would be made anew, so nothing was started. Choose:",
        f"  {settings}: make them anew; what is there now is kept in {Path(config.output) / 'superseded'}",
        *(fixed or others),
        "  the settings, files and evaluation sets of before",
    )


def console() -> Console:
    return Console(width=None if os.isatty(1) else 130)
