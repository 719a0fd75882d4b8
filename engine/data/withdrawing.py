"""Samples that may be used no more (licence, privacy, a spoiled source): named by id, by what they say, or by an image's bytes.

    id: gqa/1234            # with every row that was told apart under this id
    content: 3f0c…          # 32 hex digits: a sample's `content`, or `text_hash` of its turns
    image: 9b74…            # 64 hex digits: SHA-256 of an image's bytes

A line may end with ` # why`. From the timestep on that they are withdrawn at, they are in no pool; nothing of the past is made
anew.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from liit.engine.data.copies import text_hash
from liit.engine.data.image_hashes import hashes_of, images_of
from liit.engine.fleet.parts import read_chunks
from liit.engine.run.files import read_json
from liit.engine.run.tables import REMOVED

REASON = "withdrawn"
ERASED = "erased.json"
"""In the run folder: of every sample that was erased its id, with the marks of its text and images as lines name them."""
RELEASES = "releases"
FORM = {"id": re.compile(r"\S.*"), "content": re.compile(r"[0-9a-f]{32}"), "image": re.compile(r"[0-9a-f]{64}")}


def read_lines(path: str | Path) -> tuple[str, ...]:
    """The lines of a file, each as `kind: value # why`. Raises ValueError, one line, for a file or line that is none."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"pool.withdrawn={path}: {error.strerror}") from error
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            kind, value = parsed(line, f"{path}:{number}")[:2]
            why = line.partition(" #")[2].strip()
            lines.append(f"{kind}: {value}" + (f" # {why}" if why else ""))
    return tuple(dict.fromkeys(lines))


def parsed(line: str, where: str = "pool.withdrawals") -> tuple[str, str, str]:
    """Kind, value and reason of a line."""
    kind, _, rest = line.partition(":")
    value, _, why = rest.partition(" #")
    if kind not in FORM or FORM[kind].fullmatch(value.strip()) is None:
        raise ValueError(f"{where}: {line!r} is no `id: <id>`, `content: <32 hex digits>` or `image: <64 hex digits>`")
    return kind, value.strip(), why.strip()


@dataclass(frozen=True)
class Withdrawn:
    """What is withdrawn, by kind: value to reason."""

    ids: Mapping[str, str]
    contents: Mapping[str, str]
    images: Mapping[str, str]

    @classmethod
    def of(cls, lines: Iterable[str]) -> "Withdrawn":
        kinds: dict[str, dict[str, str]] = {kind: {} for kind in FORM}
        for line in lines:
            kind, value, why = parsed(line)
            kinds[kind].setdefault(value, why)
        return cls(kinds["id"], kinds["content"], kinds["image"])

    @classmethod
    def told(cls, config: Mapping[str, Any]) -> "Withdrawn":
        """By a run's configuration as its `config.yaml` has it, at any timestep."""
        withdrawals = config.get("pool", {}).get("withdrawals") or {}
        return cls.of(line for lines in withdrawals.values() for line in lines)

    def __bool__(self) -> bool:
        return bool(self.ids or self.contents or self.images)

    def among(self, releases: Sequence[Path], wanted: pa.ChunkedArray | None = None) -> dict[str, str]:
        """Id to reason of the samples of some releases, or of other tables of samples, that are withdrawn; wanted: of these ids
        alone."""
        if not self:
            return {}
        found = self._named(releases)
        for root in {release.parents[1] for release in releases if release.parent.name == RELEASES}:
            found |= self.erased(root)
        found |= self._by_content(releases) if self.contents else {}
        found |= self._by_image(releases) if self.images else {}
        names = pa.array(sorted(found), pa.string())
        tables = [wanted] if wanted is not None else (chunk["id"] for chunk in read_chunks(releases, ["id"]))
        among = {name for ids in tables for name in ids.filter(pc.is_in(ids, names)).to_pylist()}
        return {name: why for name, why in found.items() if name in among}

    def erased(self, root: Path) -> dict[str, str]:
        """Id to reason of what was found by its words or images in a run folder once, and erased since."""
        note = root / ERASED
        found = {}
        for name, marks in (read_json(note) if note.is_file() else {}).items():
            for mark in [marks] if isinstance(marks, str) else marks:
                if mark in self.contents or mark in self.images:
                    found[name] = self.contents.get(mark, self.images.get(mark, ""))
        return found

    def _named(self, releases: Sequence[Path]) -> dict[str, str]:
        """With every row that was told apart under an id."""
        found, names = {}, pa.array(sorted(self.ids), pa.string())
        for chunk in read_chunks(releases, ["id"]) if self.ids else ():
            source = pc.replace_substring_regex(chunk["id"], "~[^~]*$", "")
            mine = pc.or_(pc.is_in(chunk["id"], names), pc.is_in(source, names))
            for name in chunk["id"].filter(mine).to_pylist():
                found[name] = self.ids[name if name in self.ids else name.rpartition("~")[0]]
        return found

    def _by_content(self, releases: Sequence[Path]) -> dict[str, str]:
        found = {}
        for chunk in read_chunks(releases, ["id", "conversation", "content"]):
            for row in chunk.to_pylist():
                for mark in (row["content"].hex(), text_hash(row["conversation"]).hex()):
                    if mark in self.contents:
                        found[row["id"]] = self.contents[mark]
        return found

    def _by_image(self, releases: Sequence[Path]) -> dict[str, str]:
        marks = pa.array([bytes.fromhex(mark) for mark in self.images], pa.binary(32))
        found: dict[str, str] = {}
        for release in (one for one in releases if one.parent.name == RELEASES):
            table = images_of(release)
            mine = table.filter(pc.is_in(table["image"], marks))
            pairs = zip(mine["id"].to_pylist(), mine["image"].to_pylist(), strict=True)
            found |= {name: self.images[mark.hex()] for name, mark in pairs}
        for chunk in read_chunks([one for one in releases if one.parent.name != RELEASES], ["id", "images"]):
            for row in chunk.to_pylist():
                for mark in (one.hex() for one in hashes_of(row)):
                    if mark in self.images:
                        found[row["id"]] = self.images[mark]
        return found


def removed(found: Collection[str]) -> pa.Table:
    """REMOVED rows of withdrawn samples."""
    names = sorted(found)
    reasons = pa.array([REASON] * len(names), pa.string())
    return pa.table([pa.array(names, pa.string()), reasons, pa.nulls(len(names), pa.string())], schema=REMOVED)
