"""What is written of a comparison's cells: a Markdown page, the same figures as CSV, two pictures, and report.html."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from liit.engine.comparison.cells import Comparison
from liit.engine.comparison.contrast import LEVEL, Contrast
from liit.engine.comparison.contrast_tables import COSTS, INTERVALS, OVER_STREAM, differences, markdown, over_seeds
from liit.engine.pages import figures as draw
from liit.engine.pages.figures import Picture
from liit.engine.pages.page import Section, write_page
from liit.engine.run.files import appearing, read_json
from liit.engine.run.progress import log
from liit.engine.run.rules import RULES, changed_since, rules_of

LINES = 8
"""Methods in the picture of skills over time, where the comparison does not name them."""


def _of_one_rules(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the newest rules that there are: cells of two are never in one table, and what is left out is said."""
    newest = max(map(rules_of, cells), default=RULES)
    stale = [f"{cell['method']}-s{cell['seed']}" for cell in cells if rules_of(cell) != newest]
    if stale:
        log.warning("left out of the tables, as they are of older rules than %d: %s", newest, ", ".join(sorted(stale)))
    if newest != RULES:
        log.warning("the tables are of rules %d; since then %s", newest, changed_since(newest))
    return [cell for cell in cells if rules_of(cell) == newest]


def write_contrast(
    results: Path,
    output: Path,
    comparison: Comparison,
    current: Mapping[str, str],
    passes: Mapping[str, tuple[int, int]],
) -> Contrast | None:
    """Write `<results>.md`, `.csv`, `.svg` and `-skills.svg` from the cells in `results`, and `<output>/report.html`.

    Returns what they found; None, and writes nothing, where there are no cells. current: the settings that each cell must
    have been made from; cells of others stay out. passes: forwards and backwards of a scored sample, by method. Raises
    ValueError for cells that were not all made on the same stream.
    """
    cells = {path.stem: read_json(path) for path in results.glob("*-s*.json")}
    order = {name: place for place, name in enumerate(comparison.methods)}
    found = _of_one_rules([cell for name, cell in cells.items() if current.get(name) == cell["settings"]])
    found.sort(key=lambda cell: (order[cell["method"]], cell["seed"]))
    if not found:
        return None
    if len({tuple(cell["skills"]) for cell in found}) > 1:
        raise ValueError(
            f"the cells in {results} are of different evaluation sets; keep one stream's cells in a folder"
        )
    contrast = Contrast(found, comparison.reference, comparison.upper, comparison.recovers)
    figures = contrast.figures()
    pictures = _pictures(contrast, figures, comparison)
    for at, name in enumerate(("forwards", "backwards")):
        counted = figures["scored"] * [passes[method][at] for method in figures["method"]]  # as older cells were
        figures[name] = figures[name].fillna(counted).astype(int)
    apart, pairs = differences(contrast), differences(contrast, comparison.against)
    page = "\n".join(_markdown(contrast, figures, comparison, results, apart, pairs))
    texts = {".md": page, ".csv": figures.round(3).to_csv(index=False), ".svg": pictures[0].svg}
    for suffix, text in texts.items():
        with appearing(results.with_suffix(suffix)) as temporary:
            temporary.write_text(text, encoding="utf-8")
    with appearing(results.with_name(f"{results.name}-skills.svg")) as temporary:
        temporary.write_text(pictures[1].svg, encoding="utf-8")
    output.mkdir(parents=True, exist_ok=True)
    sections = _sections(contrast, figures, pictures, comparison, apart, pairs)
    write_page(output / "report.html", f"Comparison: {results.name}", _lead(contrast), sections)
    log.info("tables: %s, report: %s", results.with_suffix(".md"), output / "report.html")
    return contrast


def _pictures(contrast: Contrast, figures: pd.DataFrame, comparison: Comparison) -> list[Picture]:
    """The figures over the stream by method, and each skill over time."""
    by = figures.groupby("method", sort=False)
    known = [name for name in INTERVALS if name in figures and by[name].mean().notna().any()]
    means, spreads = by[known].mean().rename(columns=INTERVALS), by[known].std().rename(columns=INTERVALS)
    time = contrast.over_time()
    lines = [name for name in comparison.shown or list(time)[:LINES] if name in time]
    return [
        draw.dots(means, spreads, "Methods after the last release", "percent"),
        draw.skills_over_time({name: time[name] for name in lines}),
    ]


def _lead(contrast: Contrast) -> str:
    dates = sorted({cell["date"] for cell in contrast.found})
    commits = sorted({cell["commit"] for cell in contrast.found})
    hardware = contrast.found[0]["hardware"]
    return f"{dates[0]} to {dates[-1]}, {hardware}, commits {', '.join(commits)}; {len(contrast.found)} runs."


def _markdown(
    contrast: Contrast,
    figures: pd.DataFrame,
    comparison: Comparison,
    results: Path,
    apart: pd.DataFrame,
    pairs: pd.DataFrame,
) -> list[str]:
    return [
        f"# Comparison: {results.name}",
        "",
        f"{_lead(contrast)} Each is a JSON in `{results.name}/`, with its accuracy matrix and every answer's value. Missing "
        "cells are made, and this page is written, by",
        "",
        "```bash",
        comparison.command,
        "```",
        "",
        *([comparison.labels.strip(), ""] if comparison.labels else []),
        "Percent; mean ± standard deviation over seeds. Forgetting is the rate of Adapt-∞ (mean relative drop per skill and "
        "timestep), the largest drop is from a skill's best to its end, in points (He et al.'s BWT is its negative)."
        + (
            ""
            if contrast.bounds is None
            else f" Relative gain is over each skill's best in the runs of `{comparison.upper}`."
        )
        + " BWT, FWT: points; a skill counts as taught when the mean run of "
        f"`{contrast.teacher}` first has half of its best. What is taught once, at the end, has no value of these."
        + _recovery(contrast),
        "",
        *markdown(over_seeds(figures, OVER_STREAM)),
        "",
        f"![Figures after the last release, by method]({results.name}.svg)",
        "",
        f"![Each skill over time, by method]({results.name}-skills.svg)",
        "",
        "## Values after the last release",
        "",
        *markdown(over_seeds(figures, {skill: skill for skill in contrast.skills})),
        "",
        *_recoveries(contrast, figures),
        f"## Against `{comparison.reference}`, the same seeds and questions",
        "",
        _interval(),
        "",
        *markdown(apart),
        "",
        *(["Pairs of methods:", "", *markdown(pairs), ""] if len(pairs) else []),
        "## What it costs",
        "",
        *markdown(over_seeds(figures, COSTS, spread=False)),
        "",
    ]


def _recovery(contrast: Contrast) -> str:
    if contrast.recovers is None:
        return ""
    return (  # the leading blank joins it to the sentences before
        f" Recovered: how much of what the timesteps before the last had lost of {contrast.recovers}, below its best "
        "value so far, the last brought back; by loss, the same of the references' loss in nats a token, which still falls where "
        "every answer is wrong."
    )


def _recoveries(contrast: Contrast, figures: pd.DataFrame) -> list[str]:
    if contrast.recovers is None:
        return []
    lines = ["## Recovered share of every skill", "", "Nothing where a skill had lost nothing."]
    for figure in contrast.of_recovery:
        table = over_seeds(figures, {f"{figure} {skill}": skill for skill in contrast.skills})
        lines += ["", *(["By loss:", ""] if figure == "recovered_loss" else []), *markdown(table)]
    return [*lines, ""]


def _interval() -> str:
    return (
        f"Difference in points, with its {LEVEL:.0%} interval from a bootstrap over answers and seeds (with one seed, over "
        "answers alone)."
    )


def _sections(
    contrast: Contrast,
    figures: pd.DataFrame,
    pictures: list[Picture],
    comparison: Comparison,
    apart: pd.DataFrame,
    pairs: pd.DataFrame,
) -> list[Section]:
    """The same for people who would rather look."""
    final = figures.groupby("method", sort=False)[contrast.skills].mean()
    note = "Mean and standard deviation over seeds, percent."
    sections = [
        Section("Methods", note, pictures[:1], table=over_seeds(figures, OVER_STREAM)),
        Section("Skills over time", "Mean over seeds.", pictures[1:]),
        Section("Skills after the last release", "Percent, mean over seeds.", table=final.reset_index(), shaded=True),
    ]
    if contrast.bounds is not None:
        gain = (100 * final / pd.Series(contrast.bounds)[final.columns]).reset_index()
        note = f"Over the best value of each skill in the runs of {comparison.upper}, percent (Adapt-∞, Fig. 5A)."
        sections.append(Section("Relative gain by skill", note, table=gain, shaded=True))
    if len(apart):
        sections.append(Section(f"Against {comparison.reference}", _interval(), table=apart))
    if len(pairs):
        sections.append(Section("Pairs of methods", _interval(), table=pairs))
    stages = [name for name in COSTS if name.endswith("_s") and name in figures]
    seconds = figures.groupby("method", sort=False)[stages].mean().fillna(0)
    costs = draw.stacked_bars(seconds.rename(columns=COSTS), "Seconds by stage", "seconds")
    return [*sections, Section("What it costs", "", [costs], table=over_seeds(figures, COSTS, spread=False))]
