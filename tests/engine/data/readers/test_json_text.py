"""JSON is streamed, whatever it is packed in; what is no list of samples is refused with the way out."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest

from liit.engine.data.readers import json_text
from tests.engine.data.readers.written import SEE, TELL, read, row, write

CODECS = {".gz": "gzip", ".zst": "zstd"}


def packed(path: Path, text: bytes) -> None:
    with pa.CompressedOutputStream(str(path), CODECS[path.suffix]) as stream:
        stream.write(text)


def test_json_lines_give_what_the_list_gives_and_a_broken_line_is_quarantined(folder: Path) -> None:
    rows = [row(number, SEE, TELL, image="a.png") for number in range(3)]
    listed, _, _ = read(write(folder, *rows))
    lines = [json.dumps(item) for item in rows]
    path = folder / "samples.jsonl"
    path.write_text(
        "\ufeff\n" + "\r\n".join([lines[0], '{"id": 9, "conv', "[" * 100_000, "", *lines[1:], lines[0][:-9]])
    )
    samples, bad, _ = read(path)
    assert samples == listed
    assert [item.reason[: len("not JSON: line 3 ")] for item in bad] == [f"not JSON: line {n} " for n in (3, 4, 8)]
    assert len({item.id for item in bad}) == 3


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.json.gz", "a.json.zst"])
def test_packed_json_is_read_like_plain_json(folder: Path, name: str) -> None:
    rows = [row(number, SEE, TELL, image="a.png") for number in range(50)]
    plain, _, _ = read(write(folder, *rows))
    text = "\n".join(map(json.dumps, rows)) if "jsonl" in name else json.dumps(rows)
    packed(folder / name, text.encode())
    samples, bad, reader = read(folder / name)
    assert (samples, bad) == (plain, [])
    assert reader.counts.taken_for() == "1 JSON file, chat by conversations"
    packed(folder / name, text.encode()[:-10] if name.endswith("json.gz") else text.encode())
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-20])
    with pytest.raises(ValueError, match=f"{name} (cannot be read: |is not a whole JSON list)"):
        read(folder / name)


def test_parts_of_a_gzip_file_follow_each_other(folder: Path) -> None:
    lines = [gzip.compress(json.dumps(row(number)).encode() + b"\n") for number in range(3)]
    (folder / "a.jsonl.gz").write_bytes(b"".join(lines))
    assert len(read(folder / "a.jsonl.gz")[0]) == 3


@pytest.mark.parametrize("chunk", [1, 2, 7, 64])
def test_text_reads_the_same_whatever_part_of_it_is_held_at_a_time(
    tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_text, "_CHUNK", chunk)
    values = [{"a": ['x"]},', "七\n", {"b": None}]}, -12.5e3, 345, "]", [], {}, True, [[1], [2, 3]]]
    path = tmp_path / "list.json"
    for indent in (None, 3):
        path.write_text(json.dumps(values, indent=indent, ensure_ascii=False) + " \n", encoding="utf-8")
        assert list(json_text.rows(path)) == values
    path.write_text("\n \n" + "\n\n".join(json.dumps({"n": value}, ensure_ascii=False) for value in values) + "\n")
    assert list(json_text.rows(path)) == [{"n": value} for value in values]
    path.write_text(" [ ] ")
    assert list(json_text.rows(path)) == []


def test_a_list_is_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "_CHUNK", 1000)
    path = write(tmp_path, *(row(number) for number in range(1000)))
    with path.open() as stream:
        window = json_text._Window(stream)
        window.take("[")
        for _ in range(900):
            window.value()
            window.take(",")
            assert len(window.text) < 3000
        assert stream.read(1), "the end of the file was read before it was needed"


NOT_JSON = {
    "empty": b"",
    "blank": b" \n",
    "words": b"id,question,answer\n1,a,b\n",
    "number": b"12",
    "broken off": json.dumps([row(1), row(2)]).encode()[:-20],
    "never closed": b'[{"id": 1, "messages": []}',
    "comma at the end": b'[{"id": 1, "messages": []},]',
    "comma missing": b'[{"id": 1, "messages": []} {"id": 2}]',
    "two lists": b"[] []",
    "nested without end": b"[" * 100_000,
    "binary": bytes(range(128, 256)),
    "Parquet": b"PAR1\x00\x00",
    "invalid byte in a list": b'[{"id": "\xff"}]',
}


@pytest.mark.parametrize("case", NOT_JSON)
def test_a_file_that_is_not_json_stops_the_run_and_is_named(tmp_path: Path, case: str) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(NOT_JSON[case])
    with pytest.raises(ValueError, match=r"broken\.json (is|starts) "):
        read(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_refused_with_the_command_that_helps(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "wide.json"
    mark = {"utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}.get(encoding, "")
    path.write_bytes((mark + json.dumps([row(1)])).encode(encoding))
    with pytest.raises(ValueError, match=r"wide\.json is UTF-16 text; make it UTF-8: iconv -f UTF-16 -t UTF-8"):
        read(path)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("around", [{}, {"version": 1}])
def test_a_list_inside_an_object_is_refused_with_the_command_that_helps(
    tmp_path: Path, indent: int | None, around: dict[str, int]
) -> None:
    path = tmp_path / "wrapped.json"
    path.write_text(json.dumps({"data": [row(1)], **around}, indent=indent))
    with pytest.raises(
        ValueError, match=r"seem to be under 'data': give the list alone, jq '\.data' wrapped\.json > data\.json"
    ):
        read(path)


def test_a_line_without_end_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "_MAX_ELEMENT", 1000)
    monkeypatch.setattr(json_text, "_CHUNK", 100)
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps(row(1)) + "\n" + json.dumps(row("x" * 5000)) + "\n")
    with pytest.raises(ValueError, match=r"long\.jsonl has a line of more than 1000 characters"):
        read(path)
