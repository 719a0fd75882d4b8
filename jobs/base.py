"""Makes the shipped models (`make base`): the base, its language model, a half-size proxy, and one of captions alone."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # a fresh clone works without being installed

import typer

PER_SET = 200
SEED = 0
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def base(
    output: Annotated[
        Path, typer.Option(help="Folder that gets base/, proxy/, captioned/ and language_model/.")
    ] = Path("engine/data/digits"),
    only: Annotated[str, typer.Option(help="Make one model alone: base, proxy or captioned.")] = "",
    threads: Annotated[int, typer.Option(help="Threads; another number than one makes other weights.")] = 1,
) -> None:
    """Make the shipped models again: trains, measures and saves them. About an hour on one core."""
    import torch
    from rich.console import Console

    from liit.engine.data.digits.accuracy import measure
    from liit.engine.data.digits.base import SHAPES, make_model, make_processor, save_language_model
    from liit.engine.data.digits.pretraining import CAPTIONS_ALONE, Schedule, pretrain

    console = Console()
    if only and only not in SHAPES:
        raise typer.BadParameter(f"--only {only}: must be one of {', '.join(SHAPES)}")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    for name in [only] if only else SHAPES:
        started = time.monotonic()
        processor = make_processor()
        model = make_model(SHAPES[name], processor, SEED)
        console.print(f"{name}: {model.num_parameters():,} parameters, {len(processor.tokenizer)} tokens")
        schedule = CAPTIONS_ALONE if name == "captioned" else Schedule()
        pretrain(model, processor, schedule, SEED, console.print)
        folder = output / name
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        accuracies = measure(model, processor, PER_SET, seed=1)
        (folder / "accuracies.json").write_text(json.dumps(accuracies, indent=2) + "\n")
        console.print(accuracies)
        if name == "base":
            save_language_model(model, processor, output / "language_model")
        console.print(f"{name}: {time.monotonic() - started:.0f} s, saved to {folder}")


if __name__ == "__main__":
    app()
