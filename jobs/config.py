"""The configuration's schema: every key with its type, default and documentation.

liit config [--json-schema]
"""

import sys
from pathlib import Path
from typing import Annotated

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # a fresh clone works without being installed

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def config(
    section: Annotated[
        str | None, typer.Argument(help="One section alone, such as `training` or `stream.releases`.")
    ] = None,
    json_schema: Annotated[
        bool, typer.Option("--json-schema", help="As JSON schema, for editors that complete YAML by it.")
    ] = False,
) -> None:
    """Print every key of a configuration with its type, default and documentation."""
    import json

    from liit.engine.settings.schema import described, json_schema_of

    if json_schema:
        typer.echo(json.dumps(json_schema_of(), indent=1, ensure_ascii=False))
        return
    try:
        typer.echo(described(section))
    except KeyError as error:
        typer.echo(f"error: {error.args[0]}")
        raise typer.Exit(2) from error


if __name__ == "__main__":
    app()
