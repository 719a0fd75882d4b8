"""What a chat template is told beside a conversation, in plain values: shared by the configuration and the profiler."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DATE = "2026-01-01"


@dataclass(frozen=True)
class TemplateSpec:
    """Plain values, so that they travel to an actor and into a fingerprint."""

    date: str = DATE
    """ISO. What a template that writes today's date takes for today, so that tokens are the same tomorrow."""
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the template by name, e.g. {enable_thinking: false}."""
