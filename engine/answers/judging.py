"""Answers judged by another model, behind an interface like OpenAI's."""

import json
import math
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from liit.engine.answers.scores import DatasetScore, mean
from liit.engine.answers.text import Asked
from liit.engine.settings.metric_options import Judge

PASSING = (408, 429, 500, 502, 503, 504)
"""HTTP answers after which asking again may help."""
FIRST_WAIT_S = 0.5


@dataclass(frozen=True)
class Verdict:
    """What the judge wrote, or why it wrote nothing; `mark` from 0 to 1, None where none could be read."""

    mark: float | None
    text: str | None = None
    error: str | None = None


def judged(asked: Sequence[Asked], options: Judge) -> DatasetScore:
    """The mean of the judge's numbers, each by `options.best`.

    What it did not answer, or answered without a number, is unreadable. An empty answer is not sent. Extra: `judge_errors`, the
    requests that failed. Raises ValueError, one line, where the key is missing, or where every request failed: a judge that is
    not there has judged nothing.
    """
    headers = headers_of(options)
    with ThreadPoolExecutor(options.in_flight) as pool:
        verdicts = list(pool.map(lambda one: _verdict(one, options, headers), asked))
    errors = [verdict.error for verdict in verdicts if verdict.error]
    if errors and not any(verdict.text for verdict in verdicts):
        raise ValueError(
            f"judge {options.model} at {options.base_url} answered none of {len(errors)} requests: {errors[0]}"
        )
    values = [100 * (verdict.mark or 0.0) for verdict in verdicts]
    failures = sum(verdict.mark is None for verdict in verdicts)
    texts = [verdict.text for verdict in verdicts]
    return DatasetScore(mean(values), values, failures, {"judge_errors": len(errors)}, texts)


def headers_of(options: Judge) -> dict[str, str]:
    """Of every request. Raises ValueError where the key is missing."""
    headers = {"Content-Type": "application/json", "User-Agent": "liit"}
    if options.key_env is not None:
        key = os.environ.get(options.key_env)
        if not key:
            raise ValueError(f"metric judge: environment variable {options.key_env} (options.key_env) holds no key")
        headers["Authorization"] = f"Bearer {key}"
    return headers


def _verdict(one: Asked, options: Judge, headers: dict[str, str]) -> Verdict:
    if not one.answer.strip():
        return Verdict(None)
    try:
        text = _ask(prompt(one, options.prompt), options, headers)
    except (OSError, HTTPException, ValueError, KeyError, IndexError, TypeError) as error:
        return Verdict(None, error=f"{type(error).__name__}: {error}")
    found = re.findall(options.parse, text)
    try:
        mark = float(found[-1]) / options.best if found else math.nan
    except ValueError:
        mark = math.nan
    return Verdict(mark if 0 <= mark <= 1 else None, text)


def prompt(one: Asked, template: str) -> str:
    """The template with question, references and answer in their places; what these say is not a template."""
    parts = {"question": one.question, "reference": "\n".join(one.references), "answer": one.answer}
    return re.sub(r"\{(question|reference|answer)\}", lambda place: parts[place[1]], template)


class _Here(urllib.request.HTTPRedirectHandler):
    """The key goes nowhere but where it was meant for."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        return None


_OPENER = urllib.request.build_opener(_Here)


def _ask(text: str, options: Judge, headers: dict[str, str]) -> str:
    """The judge's words. Raises OSError where it cannot be reached, others where it answers something else than a chat's turn."""
    body = {
        "model": options.model,
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": options.max_tokens,
    }
    url = f"{options.base_url.rstrip('/')}/chat/completions"
    for attempt in range(options.retries + 1):
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        try:
            with _OPENER.open(request, timeout=options.timeout_s) as response:
                return str(json.load(response)["choices"][0]["message"]["content"] or "")
        except (OSError, HTTPException) as error:  # urllib's HTTPError and time-outs are among them
            passing = not isinstance(error, urllib.error.HTTPError) or error.code in PASSING
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            if not passing or attempt == options.retries:
                raise
            time.sleep(FIRST_WAIT_S * 2**attempt)
    raise AssertionError("retries is 0 or more")
