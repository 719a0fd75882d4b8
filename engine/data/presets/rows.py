"""A row with a conversation, from what is asked, shown and accepted."""

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
PLACEHOLDER = "<image>"


def asked(
    question: str,
    references: Sequence[str],
    *,
    images: Sequence[object] = (),
    answer: str | None = None,
    name: object = None,
    metric: str | None = None,
) -> Row:
    """One question and its answer, in the columns of LLaVA's files.

    images: shown before the question, unless it has places for them. answer: what stands as the answer; None: the first
    reference. metric: where the row is judged by another metric than its set.
    """
    shown = [image for image in images if image is not None and image != {"bytes": None, "path": None}]
    placed = "" if PLACEHOLDER in question else f"{PLACEHOLDER}\n" * len(shown)
    row: Row = {
        "conversations": [
            {"from": "human", "value": placed + question},
            {"from": "gpt", "value": references[0] if answer is None else answer},
        ],
        "references": list(references),
    }
    if shown:
        row["images"] = shown
    if name is not None:
        row["id"] = name if isinstance(name, int) else str(name)
    if metric is not None:
        row["metric"] = metric
    return row


def lettered(options: Sequence[object]) -> str:
    """`A. cat` and so on, a line each."""
    return "\n".join(f"{letter(at)}. {option}" for at, option in enumerate(options))


def letter(at: int) -> str:
    """A for 0, B for 1 and so on. Raises ValueError beyond Z."""
    if not 0 <= at < 26:
        raise ValueError(f"option {at} has no letter")
    return chr(ord("A") + at)
