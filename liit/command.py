"""The command `liit`: the jobs under one name. What a subcommand needs is imported when it is called, so that help is quick."""

from collections.abc import Callable

import typer

from liit.jobs import (
    base,
    chat,
    check,
    choose,
    clean,
    compare,
    config,
    continual,
    doctor,
    evaluate,
    export,
    fork,
    lifelong,
    model,
    recovery,
    status,
    where,
)
from liit.tune import ablate

COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "A stream": {
        "run": lifelong.lifelong,
        "plan": lifelong.plan,
        "check": check.check,
        "status": status.status,
        "doctor": doctor.doctor,
        "config": config.config,
    },
    "From a run": {
        "where": where.where,
        "fork": fork.fork,
        "choose": choose.choose,
        "export": export.export,
        "model": model.model,
        "evaluate": evaluate.evaluate,
        "chat": chat.chat,
        "clean": clean.clean,
    },
    "Methods side by side": {
        "compare": compare.compare,
        "continual": continual.continual,
        "recovery": recovery.recovery,
        "tune": ablate.ablate,
    },
    "The embedded stream": {
        "base": base.base,
    },
}
"""By the heading that help shows them under."""

app = typer.Typer(
    name="liit",
    help="LiIT: lifelong instruction tuning by data selection, on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for heading, commands in COMMANDS.items():
    for name, function in commands.items():
        app.command(name, rich_help_panel=heading)(function)


def main() -> None:
    """The entry point that is installed as `liit`."""
    app(prog_name="liit")


if __name__ == "__main__":
    main()
