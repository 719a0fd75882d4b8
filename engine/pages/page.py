"""One self-contained HTML page: figures, examples and sortable tables under headings; offline, light and dark, printable."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import pandas as pd

from liit.engine.pages.figures import Picture
from liit.engine.run.files import appearing

TEMPLATE = jinja2.Environment(
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    trim_blocks=True,
).get_template("page.html.j2")


@dataclass(frozen=True)
class Example:
    """A sample as a person looks at it. images: sources of HTML images."""

    id: str
    question: str
    answer: str
    images: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A heading, a line that says what to look for, and what there is to see."""

    title: str
    note: str
    pictures: Sequence[Picture] = ()
    examples: dict[str, list[Example]] = field(default_factory=dict)
    table: pd.DataFrame | None = None
    """Without its index. Floats have four digits, with `shaded` one decimal."""
    shaded: bool = False
    """Whether the floats of the table are percentages to be seen as shades."""


def write_page(path: Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Write the page; all text is escaped, whatever data set it is from."""
    with appearing(path) as temporary:
        temporary.write_text(TEMPLATE.render(title=title, lead=lead, sections=sections), encoding="utf-8")
