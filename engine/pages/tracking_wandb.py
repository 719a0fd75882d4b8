"""A timestep in Weights & Biases: one W&B run for each run folder, resumed by its id at every timestep.

W&B has one step axis for all values of a run, which may only grow; so a row carries its own axis, and W&B is told which
values go by which: `timestep`, or `optimizer_step` for what begins with `training/`. Entity, key, server and
offline mode are W&B's own environment (`WANDB_ENTITY`, `WANDB_API_KEY`, `WANDB_BASE_URL`, `WANDB_MODE`).
"""

import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

from liit.engine.run.files import read_json, write_json
from liit.engine.run.fingerprints import fingerprint
from liit.engine.run.progress import log
from liit.engine.settings.config import Config

PATIENCE = 60
"""Seconds that a timestep waits for the server, to begin and to end. W&B itself would wait for hours at the end."""


def to_wandb(root: Path, config: Config, t: int, figures: dict[str, float], curves: dict[str, list[float]]) -> None:
    """Log timestep t, unless these values of it are there. Raises what W&B raises where its server fails."""
    note, project = root / "wandb.json", config.tracking.wandb
    known = read_json(note) if note.is_file() else {}
    if known.get("project") != project:
        known = {"project": project, "run": secrets.token_hex(8), "rows": 0, "logged": {}}
        write_json(note, known)
    mark = fingerprint(figures, curves)
    if known["logged"].get(f"t{t:02d}") == mark:
        return
    axes: dict[str, Collection[str]] = {"timestep": figures, "optimizer_step": curves}
    rows = [{"timestep": t, **figures}, *_by_step(curves)]
    with _resumed(root, config, known["run"]) as run:
        if not known["logged"]:
            log.info("W&B: %s", f"offline; `wandb sync {root / 'wandb'}` sends it" if run.offline else run.url)
        for axis, names in axes.items():
            run.define_metric(axis, hidden=True)
            for group in {name.partition("/")[0] for name in names}:
                run.define_metric(f"{group}/*", step_metric=axis)
        first = max(known["rows"], run.starting_step)  # offline W&B does not know how far the run is
        for at, row in enumerate(rows, start=first):
            run.log(row, step=at)
    known |= {"rows": first + len(rows), "logged": known["logged"] | {f"t{t:02d}": mark}}
    write_json(note, known)


def signed_in() -> bool:
    """Whether W&B has a key for its server, or needs none; never asks for one.

    Raises ImportError where W&B is not installed, ValueError for a key that cannot be one.
    """
    import wandb

    if wandb.run is not None or wandb.setup().settings.mode not in ("online", "run", "shared"):
        return True
    try:
        return wandb.login(prompt=False, verify=False)
    except wandb.Error as error:
        raise ValueError(f"tracking.wandb: {error}") from error


def _by_step(curves: dict[str, list[float]]) -> list[dict[str, float]]:
    """The curves' values of one optimizer step together, from step 1; a curve that has ended is left out."""
    found = []
    for step, row in enumerate(zip_longest(*curves.values()), start=1):
        named = {name: value for name, value in zip(curves, row, strict=True) if value is not None}
        found.append({"optimizer_step": step, **named})
    return found


@contextmanager
def _resumed(root: Path, config: Config, run: str) -> Iterator[Any]:
    """The W&B run of that id, begun where it is not there; its values are sent when it is left."""
    import wandb

    settings = wandb.Settings(
        silent=True,
        console="off",  # what a run prints is its own
        x_disable_stats=True,  # the W&B run is open for a moment after a timestep, not during its work
        init_timeout=PATIENCE,
        finish_timeout=PATIENCE,
        finish_timeout_raises=True,
    )
    try:
        with wandb.init(
            project=config.tracking.wandb,
            id=run,
            name=config.name,
            dir=root,
            config=config.model_dump(mode="json"),
            allow_val_change=True,
            resume="allow",
            reinit="create_new",  # a W&B run that the caller of this process has open is left alone
            settings=settings,
        ) as opened:
            yield opened
    except Exception:
        if wandb.run is None:  # W&B's own process holds the id of a run that failed, and would refuse the next timestep
            wandb.teardown(exit_code=1)
        raise
