"""The check at ingest: what a chat template raises or does to a sample is said, and never ends the run."""

from pathlib import Path
from typing import Any

import pytest

from liit.engine.data.image_bytes import Changed, Stored, referred
from liit.engine.data.ingest import Checker
from liit.engine.models.responses import LOST
from tests.engine.data.readers.written import png

GEMMA = Path(__file__).parents[1] / "models" / "templates" / "gemma.jinja"


def checked(model: str, folder: Path, template: str, *turns: str) -> dict[str, Any]:
    for file in Path(model).iterdir():
        if file.name != "chat_template.jinja":
            (folder / file.name).symlink_to(file)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    conversation = [{"role": turn.partition(":")[0], "text": turn.partition(":")[2]} for turn in turns]
    sample = {"id": "d/1", "key": 1, "conversation": conversation, "images": []}
    row: dict[str, Any] = Checker(str(folder), None, 400)([sample]).to_pylist()[0]
    return row


def test_a_template_that_refuses_a_row_is_its_reason(tiny_llama: str, tmp_path: Path) -> None:
    template = GEMMA.read_text(encoding="utf-8")
    row = checked(tiny_llama, tmp_path, template, "user:why?", "user:how?", "assistant:so")
    assert row["reason"].startswith("the chat template refuses the conversation: Conversation roles must alternate")
    assert row["notes"] is None


def test_what_a_template_does_to_a_row_is_noted(tiny_llama: str, tmp_path: Path) -> None:
    merged, lost = tmp_path / "merged", tmp_path / "lost"
    merged.mkdir()
    lost.mkdir()
    template = GEMMA.read_text(encoding="utf-8")
    row = checked(tiny_llama, merged, template, "system:Be kind.", "user:why?", "assistant:so")
    assert row["reason"] is None
    assert any("takes no system turn" in note for note in row["notes"])
    short = "{% for m in messages[-2:] %}{{ m.role }}: {{ m.content }}</s>{% endfor %}"
    short += "{% if add_generation_prompt %}assistant:{% endif %}"
    row = checked(tiny_llama, lost, short, "user:why?", "assistant:so", "user:and?", "assistant:no")
    assert (row["reason"], row["notes"]) == (None, [LOST])


def test_a_file_that_changed_after_it_was_read_stops_the_check_and_blames_no_sample(
    tiny_llava: str, tmp_path: Path
) -> None:
    file, data = tmp_path / "pictures.tar", png(3)
    file.write_bytes(data)
    image = referred({"path": None, "bytes": Stored.in_tar(data, str(file), 0)})
    turns = [{"role": "user", "text": "<image>What?"}, {"role": "assistant", "text": "That."}]
    sample = {"id": "d/1", "key": 1, "conversation": turns, "images": [image]}
    check = Checker(tiny_llava, None, 400)
    assert check([sample]).to_pylist()[0]["reason"] is None
    file.write_bytes(png(4))
    with pytest.raises(Changed, match=f"^changed source: {file} holds another picture"):
        check([sample])
