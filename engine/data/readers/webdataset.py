"""WebDataset: tars in which members of one name are a sample, `a.json` or `a.txt` with `a.jpg`. Streamed, never unpacked."""

import json
import tarfile
from collections.abc import Iterator, Mapping

from liit.engine.data.image_bytes import Stored
from liit.engine.data.readers.sample import empty
from liit.engine.run.storage.places import Place, absolute

SUFFIXES = (".tar", ".tar.gz", ".tgz")
PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm")
MEDIA = {
    **dict.fromkeys(("mp4", "webm", "avi", "mkv", "mov"), "videos"),
    **dict.fromkeys(("wav", "mp3", "flac", "ogg"), "audios"),
}
MAX_MEMBER = 1 << 29
"""Bytes of one member; a larger one is not read."""

PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
"""What packed files begin with, of which no member can be found again."""

Row = dict[str, object]


def rows(file: Place) -> Iterator[object]:
    """A row for each run of members whose names are alike up to the first point, as WebDataset groups them.

    The row is what its json says; `txt` is its text, `images` are its pictures in the order in which the json names them, else in
    that of the tar. Its id is the members' name where the json gives none. A row that cannot be decoded comes as a ValueError,
    and the rest follows. Raises ValueError naming the file if it is missing, is no tar or breaks off.
    """
    try:
        with file.open("rb") as stored:
            packed = stored.read(6).startswith(PACKED)
        path = "" if packed else str(absolute(str(file)))
        with file.open("rb") as stored, tarfile.open(fileobj=stored, mode="r|*") as tar:
            name, row = None, Row()
            for member in tar:
                key, _, suffix = _split(member.name)
                if not member.isfile() or not suffix:
                    continue
                if key != name and name is not None:
                    yield _finished(row, name)
                    row = Row()
                name = key
                _add(row, member, suffix.lower(), tar, path)
            if name is not None:
                yield _finished(row, name)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{file} cannot be read as a tar: {getattr(error, 'strerror', None) or error}") from error


def _split(name: str) -> tuple[str, str, str]:
    """`folder/a.b.jpg` is the sample `folder/a` and its member `b.jpg`."""
    folder, slash, base = name.rpartition("/")
    stem, point, suffix = base.partition(".")
    return folder + slash + stem, point, suffix if stem else ""


def _add(row: Row, member: tarfile.TarInfo, suffix: str, tar: tarfile.TarFile, path: str) -> None:
    """path: of a tar whose members can be found again."""
    last = suffix.rpartition(".")[2]
    if last in MEDIA:
        row[MEDIA[last]] = [member.name]
    elif last not in (*PICTURES, "json", "txt"):
        row[f".{last}"] = member.name
    elif member.size > MAX_MEMBER:
        row["error"] = ValueError(
            f"large member: {member.name!r:.200} has {member.size} bytes, at most {MAX_MEMBER} are read"
        )
    else:
        stream = tar.extractfile(member)
        assert stream is not None  # a regular file
        data = stream.read()
        if path and last in PICTURES and not member.issparse():
            data = Stored.in_tar(data, path, member.offset_data)
        row[suffix if last in PICTURES else last] = data


def _finished(found: Row, name: str) -> object:
    """The row that the members make; a ValueError where they make none."""
    if "error" in found:
        return found["error"]
    members = {key: value for key, value in found.items() if isinstance(value, bytes)}
    told, said = members.pop("json", b"{}"), members.pop("txt", None)
    try:
        row = json.loads(told)
        text = {} if said is None else {"txt": said.decode()}
    except (ValueError, RecursionError) as error:
        return ValueError(f"not JSON: {name!r:.200}: {error}")
    if not isinstance(row, dict):
        return ValueError(f"wrong type: the json of {name!r:.200} must be an object, not {type(row).__name__}")
    try:
        stored = _ordered(members, row)
    except ValueError as error:
        return ValueError(f"ambiguous images: the json of {name!r:.200} names {error}")
    row = (
        {**row, **text}
        | ({"id": name} if empty(row.get("id")) else {})
        | {key: value for key, value in found.items() if not isinstance(value, bytes)}
    )
    if stored:
        row.pop("image", None)
        row["images"] = [{"bytes": members[suffix], "path": f"{name}.{suffix}"} for suffix in stored]
    return row


def _ordered(pictures: Mapping[str, bytes], row: Row) -> list[str]:
    """The pictures beside a json in the order in which it names them, else in that of the tar."""
    given = next((row[key] for key in ("images", "image") if row.get(key)), None)
    names = given if isinstance(given, list) else [given]
    if given is None or not pictures or (len(names) == len(pictures) == 1):
        return list(pictures)
    found = [[suffix for suffix in pictures if f".{one}".endswith((f".{suffix}", f"/{suffix}"))] for one in names]
    if sorted(suffix for suffixes in found for suffix in suffixes) != sorted(pictures):
        raise ValueError(f"{len(names)} pictures, and they are not the {len(pictures)} beside it")
    return [suffix for suffixes in found for suffix in suffixes]
