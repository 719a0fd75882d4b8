"""A release as people publish it: ids that repeat, empty images, switches of the loss, rows that are none, torn pictures."""

import json
from pathlib import Path
from typing import Any

from tests.engine.data.readers.written import png


def turns(*texts: str) -> list[dict[str, Any]]:
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


def rows() -> list[dict[str, Any]]:
    """31 rows: 24 samples, 2 equal to another, 3 that are refused when read and 2 when decoded."""
    seen = [
        {"id": n // 3, "image": f"{n % 4}.png", "conversations": turns(f"<image>\nWhat, {n}?", str(n))}
        for n in range(12)
    ]
    told = [
        {"id": f"t{n}", "image": "", "conversations": turns(f"{n} + 1?", str(n + 1)), "model": "m"} for n in range(10)
    ]
    context = turns("A?", "wrong", "B?", "right")
    context[1]["weight"] = 0
    odd = [
        {"id": "c", "conversations": context},
        {"id": "l", "conversations": turns("Hi!")[:0] + turns("", "Hi!", "Q?", "A.")[1:]},
    ]
    bad = [
        {"id": "x", "conversations": turns("Q?", "A."), "tools": "[1]"},
        {"id": "y", "image": "absent.png", "conversations": turns("<image>", "A.")},
        {"id": "z", "conversations": turns("Q?", "A."), "videos": ["a.mp4"]},
    ]
    torn = [{"id": f"torn{n}", "image": "torn.png", "conversations": turns(f"<image>{n}", "A.")} for n in range(2)]
    return [*seen, *told, *odd, *bad, *torn, seen[4], told[2]]


def publish(folder: Path, name: str = "release.json", given: list[dict[str, Any]] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    for shade in range(4):
        (folder / f"{shade}.png").write_bytes(png(60 * shade))
    (folder / "torn.png").write_bytes(png(5)[:50])
    path = folder / name
    path.write_text(json.dumps(rows() if given is None else given), encoding="utf-8")
    return path
