"""The synthetic stream of `millions.py`: six releases as JSON Lines, or as Parquet with a tiny picture in every row."""

import json
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

RELEASES, PICTURES, QUESTIONS = 6, 64, 20


def data_of(folder: Path, count: int, form: str) -> Path:
    """Where its files lie."""
    return folder / f"{form}-{count}"


def write_stream(folder: Path, count: int, form: str) -> None:
    """The source files, where they are not there."""
    data = data_of(folder, count, form)
    data.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2) as workers:
        list(
            workers.map(
                write_release, [data] * RELEASES, range(RELEASES), [count // RELEASES] * RELEASES, [form] * RELEASES
            )
        )
    lines = (json.dumps({"id": n, "conversations": said(n, "exam", "")}) for n in range(QUESTIONS))
    (data / "exam.jsonl").write_text("\n".join(lines) + "\n")


def write_release(data: Path, t: int, count: int, form: str) -> None:
    path = data / f"r{t}.{form}"
    if path.is_file():
        return
    partial = path.with_suffix(".partial")
    if form == "jsonl":
        with partial.open("w") as lines:
            for n in range(count):
                lines.write(json.dumps({"id": n, "conversations": said(n, f"release {t}", "")}) + "\n")
    else:
        pictures, writer = [picture(n) for n in range(PICTURES)], None
        for start in range(0, count, 1 << 14):
            numbers = range(start, min(start + (1 << 14), count))
            rows = [
                {
                    "id": n,
                    "image": {"bytes": pictures[n % PICTURES], "path": None},
                    "conversations": said(n, f"release {t}", "<image>\n"),
                }
                for n in numbers
            ]
            table = pa.Table.from_pylist(rows)
            writer = writer or pq.ParquetWriter(partial, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()
    partial.rename(path)


def said(n: int, where: str, image: str) -> list[dict[str, str]]:
    """A conversation; every thousandth is an exact copy of another one."""
    n = n - 1 if n % 1000 == 999 else n
    question = f"{image}In {where}, what comes after {n}?" + " Think about it." * (n % 7)
    return [{"from": "human", "value": question}, {"from": "gpt", "value": f"After {n} comes {n + 1}."}]


def picture(n: int) -> bytes:
    content = BytesIO()
    Image.new("RGB", (4, 4), (4 * n, 255 - n, 7 * n % 256)).save(content, "PNG")
    return content.getvalue()
