"""Draws `docs/loop.svg`, one timestep of the loop:  python docs/_drawings/loop.py"""

from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "loop.svg"
BOXES = {
    "release t": ("new samples,", "checked once"),
    "pool": ("all that came", "and stayed"),
    "profile": ("scores, gradient", "sketches"),
    "clusters": ("pseudo-tasks", "by gradients"),
    "selection": ("T samples, and", "why each"),
    "adapter t": ("LoRA, trained", "on these"),
    "results": ("what is learned,", "what is lost"),
}
STAGES = ("ingest", "score", "cluster", "select", "train", "evaluate")
"""Between one box and the next."""
WIDTH, HEIGHT, GAP, LEFT, TOP = 98, 66, 30, 12, 62
INK, LINE, FILL, BACK = "#1b2a41", "#3b5b92", "#eef3fb", "#ffffff"


def left(box: str) -> int:
    return LEFT + list(BOXES).index(box) * (WIDTH + GAP)


def middle(box: str) -> float:
    return left(box) + WIDTH / 2


def text(x: float, y: float, words: str, size: float = 11, weight: str = "normal") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" font-weight="{weight}">{words}</text>'


def arrow(path: str, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1.6" marker-end="url(#head)"{dashes}/>'


def box(name: str) -> list[str]:
    x, y, (first, second) = left(name), TOP, BOXES[name]
    return [
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="7" fill="{FILL}" stroke="{LINE}" stroke-width="1.4"/>',
        text(middle(name), y + 22, name, 14, "bold"),
        text(middle(name), y + 40, first),
        text(middle(name), y + 54, second),
    ]


def stage(name: str, before: str) -> list[str]:
    start, y = left(before) + WIDTH, TOP + HEIGHT / 2
    return [arrow(f"M{start} {y:g} H{start + GAP - 3}"), text(start + GAP / 2, TOP - 8, name, 12)]


def back(start: str, end: str, depth: int, words: str, dashed: bool = False) -> list[str]:
    """An arrow below the boxes, from one to an earlier one."""
    bottom, aside = TOP + HEIGHT, -12 if dashed else 12
    down, up = middle(start) + aside, middle(end) + aside
    path = f"M{down:g} {bottom} V{bottom + depth} H{up:g} V{bottom + 4}"
    return [arrow(path, dashed), text((down + up) / 2, bottom + depth - 6, words, 12)]


def drawing() -> str:
    width, height = 2 * LEFT + len(BOXES) * WIDTH + len(STAGES) * GAP, TOP + HEIGHT + 76
    head = '<path d="M0 0 L8 4 L0 8 z" fill="' + LINE + '"/>'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" text-anchor="middle" fill="{INK}" role="img" aria-label="One timestep of LiIT">',
        f'<defs><marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="4" orient="auto">{head}</marker></defs>',
        f'<rect width="{width}" height="{height}" rx="8" fill="{BACK}"/>',
        text(width / 2, 24, "one timestep: at every release, with the model of the timestep before", 14),
        *[line for name in BOXES for line in box(name)],
        *[line for name, before in zip(STAGES, BOXES, strict=False) for line in stage(name, before)],
        *back("adapter t", "profile", 26, "scores the pool at t + 1, and is trained further", dashed=True),
        *back("results", "pool", 56, "prune what is redundant, for good (Lite-Adapt-∞)"),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(drawing(), encoding="utf-8")
