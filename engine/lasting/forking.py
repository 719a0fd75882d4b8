"""A run that shares another's past and goes on with other settings."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow.compute as pc

from liit.engine.data.moving import move_images
from liit.engine.lasting.continuing import withdrawn_by
from liit.engine.run.files import read_table, remove, write_table
from liit.engine.run.reading import open_run
from liit.engine.run.superseding import files_of, share
from liit.engine.settings.config import Config, ConfigError, read
from liit.engine.settings.phases import SECTIONS, from_on

TABLES = ("releases", "rows", "images", "exam", "looks", "data")
"""Folders of what comes before any timestep."""


def fork(run: Path, at: int, output: Path, overrides: Sequence[str], write: Callable[[Config, Path], object]) -> Config:
    """Make the folder `output` a run that has finished the timesteps 0 to `at` of `run`; the configuration that it goes on with.

    Files are shared by links, or copied where there can be none. overrides: `dotted.key=value`; those of strategy, scoring,
    clustering and training hold from timestep `at` + 1 on. write: leaves `config.yaml` in a folder; the output appears with it.
    Raises RunError or ConfigError, one line, where there is nothing to share or the output is there already.
    """
    here = open_run(run)
    here.step(at)
    if not (here.root / f"t{at:02d}/removed.parquet").is_file():
        raise ConfigError(f"{run}: timestep {at} is not finished; fork at an earlier one, or let the run go on")
    if output.exists():
        raise ConfigError(f"{output} is there already; name a folder that is not")
    later = [f"from.{at + 1}.{one}" for one in overrides if one.split("=")[0].partition(".")[0] in SECTIONS]
    others = [one for one in overrides if one.split("=")[0].partition(".")[0] not in SECTIONS]
    before = read(here.root / "config.yaml", [*others, f"output={output.resolve()}"])
    asked = read(None, later).from_.get(at + 1, {})
    told = before.model_dump() | {"from": from_on(before.from_, at + 1, asked)}
    config = withdrawn_by(Config.model_validate(told), at + 1)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.forking")
    remove(partial)
    root = here.root.resolve()
    share(root, partial, {"forked": str(root), "at": at}, list(_wanted(root, at)))
    (partial / "superseded.json").rename(partial / "forked.json")
    for path in root.glob("t*/quarantine.parquet"):
        if int(path.parent.name[1:]) > at:  # of its release, which is shared; not of a scoring
            rows = read_table(path)
            (partial / path.parent.name).mkdir(exist_ok=True)
            write_table(partial / path.relative_to(root), rows.filter(pc.not_equal(rows["stage"], "score")))
    for old in (root, Path(here.config["output"])):  # where the run lies, and where it lay when its tables were written
        move_images(partial, old, output.resolve())
    write(config, partial)
    partial.rename(output)
    return config


def _wanted(root: Path, at: int) -> Iterator[Path]:
    for path in files_of(root):
        top = path.relative_to(root).parts[0]
        step = top[1:].isdigit() and top[0] == "t" and int(top[1:]) <= at
        if top in TABLES or step or top.startswith("targets") or top == "stages.jsonl":
            yield path
