"""The rows of a published set as its files have them → rows with a conversation, which readers check like any other."""

from collections.abc import Callable, Iterator
from itertools import chain

from liit.engine.data.presets import captioning, choosing, language, questions, referring
from liit.engine.data.presets.rows import Row
from liit.engine.settings.presets import PRESETS
from liit.engine.settings.streams import EvaluationSet, Release

MAPPINGS: dict[str, Callable[[Row], list[Row]]] = {
    "gqa": questions.gqa,
    "vqav2": questions.vqav2,
    "vizwiz": questions.vizwiz,
    "textvqa": questions.textvqa,
    "ocr-vqa": questions.ocr_vqa,
    "okvqa": questions.okvqa,
    "aokvqa": choosing.aokvqa,
    "scienceqa": choosing.scienceqa,
    "mmmu": choosing.mmmu,
    "refcoco": referring.refcoco,
    "refcoco-plus": referring.refcoco,
    "refcocog": referring.refcoco,
    "flickr30k": captioning.flickr30k,
    "textcaps": captioning.textcaps,
    "coco-cn": captioning.m3it,
    "flickr8k-cn": captioning.m3it,
    "mmlu": choosing.mmlu,
    "gsm8k": language.gsm8k,
    "bbh": language.bbh,
    "tydiqa": language.tydiqa,
    "humaneval": language.humaneval,
    "alpaca-eval": language.alpaca_eval,
}


def mapped(release: Release, rows: Iterator[object], folder: str, left_out: list[str]) -> Iterator[object]:
    """The rows as the release's preset maps them, one or more for each; as they are where it names none.

    folder: of images. left_out: gets how many rows are of other splits, in words. A row that cannot be mapped comes as a
    ValueError, and the rest follows. Raises ValueError where the first row lacks a column that the preset reads: these are other
    files.
    """
    name = release.preset if isinstance(release, EvaluationSet) else None
    if name is None:
        return rows
    first = next(rows, None)
    if isinstance(first, dict) and (missing := _missing(name, first)):
        raise ValueError(
            f"release {release.name}: rows have columns {', '.join(map(str, first))}, but no {', '.join(missing)}; preset {name} "
            f"reads files of {PRESETS[name].place}"
        )
    return _all(name, iter(()) if first is None else chain([first], rows), folder, left_out)


def _all(name: str, rows: Iterator[object], folder: str, left_out: list[str]) -> Iterator[object]:
    stored = questions.stored_images(folder) if name == "gqa" else {}
    others = 0
    for row in rows:
        if not isinstance(row, dict):
            yield row
            continue
        if row.get("imageId") in stored:
            row = {**row, "image": stored[row["imageId"]]}
        found = _one(name, row)
        others += not found
        yield from found
    if others:
        left_out.append(f"{others} rows of other splits than preset {name} has")


def _one(name: str, row: Row) -> list[Row] | list[ValueError]:
    if missing := _missing(name, row):
        return [ValueError(f"missing column: no {', '.join(missing)} in a row of preset {name}")]
    try:
        return list(MAPPINGS[name](row))
    except ValueError as error:
        return [error]
    except (KeyError, IndexError, TypeError, AttributeError, SyntaxError) as error:
        return [ValueError(f"unlike its set: a row of preset {name}: {type(error).__name__}: {error}")]


def _missing(name: str, row: Row) -> list[str]:
    return [column for column in PRESETS[name].columns if not column.startswith("?") and column not in row]
