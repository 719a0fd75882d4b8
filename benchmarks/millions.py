"""A whole run over a synthetic stream of millions: what the driver takes of seconds, memory and files, stage by stage.

    python benchmarks/millions.py [--count N ...] [--format jsonl parquet] [--strategy adapt-inf lite-adapt-inf] [--json FILE]

Six releases as JSON Lines, or as Parquet with a tiny picture in every row, and five timesteps of Adapt-∞ over the whole pool, or
of Lite with a pool of 100,000. The model alone is made up (`stand_ins.py`); all else is the engine's: ingest, pool, planning,
profiles with a sketch of 256, clusters, selection, pruning. The same command goes on where it was stopped; of what is there, what
was noted is read. `stagewise.py` has the driver's stages by themselves, in a minute.

Of every result: `seconds`, those `outside` of Ray's tasks, `cpu` seconds of the driver, its anonymous memory above the start
(`above_start`, in bytes), that of the `largest` process, `files`, `bytes`, and seconds to the first batch (`first_batch`).
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import stand_ins
from rich.console import Console
from synthetic import RELEASES, data_of, write_stream
from watching import Watch, anonymous, weight

from liit.engine.freeing import ALLOCATOR, free_at_once
from liit.engine.run.store import Made, Store, Work
from liit.engine.settings.config import Config, read

LITE = 100_000
console = Console(width=120)


def told(folder: Path, count: int, form: str, strategy: str, actors: int) -> Config:
    """The configuration of a run."""
    data = data_of(folder, count, form)
    asked = {"name": "exam", "path": str(data / "exam.jsonl"), "skill": "sums", "metric": "exact"}
    stream = {
        "kind": "files",
        "releases": [{"name": f"r{t}", "path": str(data / f"r{t}.{form}")} for t in range(RELEASES)],
        "evaluations": [asked],
    }
    return read(
        None,
        [
            "name=millions",
            f"output={folder / f'run-{form}-{strategy}-{count}'}",
            "model.path=digits-base",
            f"stream={json.dumps(stream)}",
            f"strategy.name={strategy}",
            f"strategy.budget={min(25_000, count // 20)}",
            f"strategy.pool_budget={min(LITE, count // 4)}",
            "scoring.samples_per_batch=256",
            "scoring.tokens_per_batch=1000000",
            "scoring.gradient.dimension=256",
            "scoring.embedding=128",
            f"resources.actors={actors}",
            "resources.cpus_per_actor=0.5",
            "resources.num_cpus=2",
            "keep_profiles=1",
        ],
    )


class Measured(Store):
    """A store that notes what the making of every result took."""

    inside = 0.0
    """Seconds of this process in Ray's tasks."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.start = anonymous()
        self.notes: Path = self.root / "measured.jsonl"

    def make(self, name: str, work: Work, **rest: Any) -> Made:
        def watched(partial: Path, clock: Any) -> object:
            before, resumed = Measured.inside, clock.before > 0
            with Watch() as watch:
                result = work(partial, clock)
            files, size = weight(partial, *(partial.parent / other for other in rest.get("beside", ())))
            self.note(name, watch, Measured.inside - before, files, size, resumed)
            return result

        return super().make(name, watched, **rest)

    def note(self, name: str, watch: Watch, inside: float, files: int, size: int, resumed: bool) -> None:
        line = {
            "result": name,
            "seconds": watch.seconds,
            "outside": watch.seconds - inside,
            "cpu": watch.cpu,
            "above_start": watch.peak - self.start,
            "left": anonymous() - self.start,
            "largest": watch.largest,
            "files": files,
            "bytes": size,
            "first_batch": stand_ins.first_mark(watch.at) if inside else None,
            "resumed": resumed,
        }
        with self.notes.open("a") as lines:
            lines.write(json.dumps(line) + "\n")


def timed(run: Callable[..., Any]) -> Callable[..., Any]:
    """`planned.run`, its seconds noted."""

    def inside(*arguments: Any, **named: Any) -> Any:
        began = time.monotonic()
        try:
            return run(*arguments, **named)
        finally:
            Measured.inside += time.monotonic() - began

    return inside


def child(config: Config) -> None:
    """The run itself, with stand-ins for the model."""
    from liit.engine import lifelong
    from liit.engine.data import ingest, reading
    from liit.engine.evaluation import generations
    from liit.engine.fleet import planned
    from liit.engine.fleet.connect import connect
    from liit.engine.main import begin
    from liit.engine.scoring import scoring
    from liit.engine.training import teaching

    replaced = [
        (reading, "SplitReader", stand_ins.Read),
        (ingest, "PartWriter", stand_ins.Written),
        (scoring, "ProfileWorker", stand_ins.Scored),
        (generations, "Answerer", stand_ins.Answered),
        (teaching, "train", stand_ins.trained),
        (planned, "run", timed(planned.run)),
    ]
    for module, name, stand_in in replaced:
        setattr(module, name, stand_in)
    free_at_once()  # as a run does, before Ray's threads are there; of its workers, none does
    del os.environ[ALLOCATOR]
    connect(config.resources)
    store = Measured(Path(config.output))
    begin(config, store)
    with Watch() as watch:
        lifelong.run(config, store)
    files, size = weight(store.root)
    store.note("whole", watch, Measured.inside, files, size, False)
    store.close()


def measured(config: Config) -> dict[str, Any]:
    """What a run took: the notes that there are, made where they are not."""
    root = Path(config.output)
    if not (root / "results.json").is_file():
        marks = root.with_name(f"{root.name}.marks")
        marks.mkdir(parents=True, exist_ok=True)
        take_releases(root)
        here = Path(__file__).resolve().parent
        environment = os.environ | {
            stand_ins.MARKS: str(marks),
            "PYTHONPATH": f"{here}:{here.parent}",
            "HF_HUB_OFFLINE": "1",
            ALLOCATOR: "system",  # `free_at_once` comes after pyarrow here
        }
        arguments = [sys.executable, "-W", "ignore", __file__, "--child", config.model_dump_json()]
        done = subprocess.run(
            arguments, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        root.with_name(f"{root.name}.txt").write_text(done.stdout)
        if done.returncode:
            raise RuntimeError(f"{root} failed:\n{done.stdout[-3000:]}")
    lines = [json.loads(line) for line in (root / "measured.jsonl").read_text().splitlines()]
    return {line.pop("result"): line for line in lines}


def take_releases(root: Path) -> None:
    """Ingest knows nothing of strategies: what a run over the same stream by another one has read stands here too."""
    form, count = root.name.split("-")[1], root.name.rpartition("-")[2]
    others = [one.parent for one in root.parent.glob(f"run-{form}-*-{count}/results.json")]
    if root.exists() or not others:
        return
    shutil.copytree(others[0] / "releases", root / "releases", copy_function=os.link)
    lines = (others[0] / "measured.jsonl").read_text().splitlines(keepends=True)
    (root / "measured.jsonl").write_text("".join(line for line in lines if line.startswith('{"result": "releases/')))


def by_timestep(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Sums of seconds and files, peaks of memory, and the latest first batch, of each timestep and of all ingest."""
    found: dict[str, dict[str, float]] = {}
    for name, one in results.items():
        of = found.setdefault(name.partition("/")[0], {})
        for key in ("seconds", "outside", "cpu", "files", "bytes"):
            of[key] = of.get(key, 0) + one[key]
        for key in ("above_start", "largest", "first_batch"):
            of[key] = max(of.get(key, 0), one[key] or 0)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, nargs="+", default=[250_000])
    parser.add_argument("--format", nargs="+", choices=["jsonl", "parquet"], default=["jsonl", "parquet"])
    parser.add_argument("--strategy", nargs="+", default=["adapt-inf", "lite-adapt-inf"])
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("build/millions"))
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        child(Config.model_validate_json(options.child))
        return
    folder, found = options.folder.resolve(), dict[str, Any]()
    for form in options.format:
        for strategy in options.strategy:
            for count in options.count:
                write_stream(folder, count, form)
                results = measured(told(folder, count, form, strategy, options.actors))
                steps = by_timestep(results)
                found.setdefault(f"{form} {strategy}", {})[str(count)] = {"results": results, "timesteps": steps}
                say(f"{form} {strategy} {count:,}", steps, count)
    for name, by_count in found.items():
        if len(by_count) > 1:
            few, many = min(by_count, key=int), max(by_count, key=int)
            slopes = slopes_of(by_count[few]["results"], by_count[many]["results"], int(many) / int(few))
            by_count["slopes"] = slopes
            console.print(f"{name}, slopes of seconds: " + ", ".join(f"{k} {v:.2f}" for k, v in slopes.items()))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def slopes_of(few: dict[str, Any], many: dict[str, Any], ratio: float) -> dict[str, float]:
    """Of log seconds over log samples, where a result took a second or more."""
    return {
        name: math.log(one["seconds"] / few[name]["seconds"]) / math.log(ratio)
        for name, one in many.items()
        if name in few and few[name]["seconds"] > 1
    }


def say(title: str, steps: dict[str, dict[str, float]], count: int) -> None:
    for name, one in steps.items():
        console.print(
            f"{title} {name:10} {one['seconds']:7.1f} s, {one['outside']:6.1f} outside tasks, cpu {one['cpu']:6.1f}, "
            f"driver +{one['above_start'] / 1e6:5.0f} MB = {one['above_start'] / count:5.0f} bytes a sample, "
            f"{one['files']:5.0f} files, first batch {one['first_batch']:.1f} s"
        )


if __name__ == "__main__":
    main()
