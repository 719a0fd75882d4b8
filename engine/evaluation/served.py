"""Answers by a server of others: the planned prompts as chat messages, some at a time, asked again where a request fails."""

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from http.client import HTTPException
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from liit.engine.answers.judging import FIRST_WAIT_S, PASSING
from liit.engine.data.readers.images import open_image
from liit.engine.evaluation.answering import GIVEN
from liit.engine.evaluation.serving import LOCAL, Serving, filled
from liit.engine.fleet.running import TaskError
from liit.engine.models import loading
from liit.engine.models.layout import layout_of
from liit.engine.models.rendering import Form, Message, messages_of
from liit.engine.settings.specs import TemplateSpec

Sample = Mapping[str, Any]
SHOWN = 300
"""Characters of what a server says of a request that it refuses."""


class Served:
    """The actor that has a server: started when the first task comes, gone with the actor, or with the first error."""

    def __init__(
        self,
        server: Mapping[str, Any],
        places: Mapping[str, str],
        folder: str,
        new_tokens: Mapping[str, int],
        model: Mapping[str, Any],
        template: TemplateSpec | None = None,
    ) -> None:
        """server: `evaluation.server`. places: what the words in its command stand for. model: `path` and `revision` of the
        base, whose processor says what its chat template takes."""
        self.told, self.places, self.folder, self.new_tokens = server, places, Path(folder), new_tokens
        own = "{merged}" if "{merged}" in server["command"] else "{adapter}"
        self.name = filled(server["name"] or own, places)
        self.processor = loading.load_processor(model["path"], model["revision"], template)

    @cached_property
    def serving(self) -> Serving:
        one = Serving(self.told["command"], self.places, self.folder)
        try:
            one.wait(self.told["health"], self.told["start_s"])
        except BaseException:
            one.stop()
            raise
        return one

    def whole(self, batches: Iterable[Sequence[Sample]]) -> pa.Table:
        """GIVEN rows of all samples of a task. Raises TaskError where the server does not start, ends, or refuses a sample."""
        samples = list(chain.from_iterable(batches))
        serving = self.serving
        with ThreadPoolExecutor(self.told["in_flight"]) as pool:
            asked = [pool.submit(self._answer, serving, one) for one in samples]
            try:
                answers = [one.result() for one in asked]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                serving.stop()  # what is under way ends with it
                del self.serving
                raise
        return pa.table({"id": [sample["id"] for sample in samples], "answer": answers}, schema=GIVEN)

    def _answer(self, serving: Serving, sample: Sample) -> str:
        body = {
            "model": self.name,
            "messages": spoken_to(self.processor, sample),
            "temperature": 0,
            "max_tokens": self.new_tokens[sample["dataset"]],
        }
        request = urllib.request.Request(
            f"{serving.address}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        for attempt in range(self.told["retries"] + 1):
            try:
                with LOCAL.open(request, timeout=self.told["timeout_s"]) as reply:
                    return str(json.load(reply)["choices"][0]["message"]["content"] or "").strip()
            except (OSError, HTTPException) as error:
                why, passing = _reason(error)
                if not passing or serving.ended or attempt == self.told["retries"]:
                    raise TaskError(f"{sample['id']}: the server gives no answer ({why}); {serving.said()}") from error
                time.sleep(FIRST_WAIT_S * 2**attempt)
            except (ValueError, KeyError, IndexError, TypeError) as error:
                raise TaskError(f"{sample['id']}: the server answers something else than a chat's turn") from error
        raise AssertionError("retries is 0 or more")


def spoken_to(processor: Any, sample: Sample) -> list[Message]:
    """What stands before the last assistant turn, as messages of OpenAI's chat interface; pictures as PNG in them.

    Turned upright and in RGB, as the built-in engine sees them.
    """
    form = Form(parts=True, system=layout_of(processor).form.system)
    messages, _ = messages_of(processor, sample["conversation"][:-1], form)
    pictures = (open_image(image) for image in sample["images"])
    return [{**one, "content": _content(one["content"], pictures)} for one in messages]


def _content(parts: Sequence[Mapping[str, str]], pictures: Any) -> str | list[dict[str, Any]]:
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return [_shown(next(pictures)) if part["type"] == "image" else dict(part) for part in parts]


def _shown(picture: Image.Image) -> dict[str, Any]:
    stream = BytesIO()
    picture.save(stream, "PNG", compress_level=1)
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"},
    }


def _reason(error: Exception) -> tuple[str, bool]:
    """Why a request failed, and whether asking again may help."""
    if not isinstance(error, urllib.error.HTTPError):
        return f"{type(error).__name__}: {error}", True
    with error:
        words = error.read(2000).decode(errors="replace").strip()
    return f"HTTP {error.code}: {' '.join(words.split())[:SHOWN]}", error.code in PASSING
