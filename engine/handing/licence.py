"""The licence of a base model, as it says of itself; None where nobody says."""

import re
from pathlib import Path

import yaml
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from liit.engine.handing.source import Source
from liit.engine.models.loading import SHIPPED


def licence_of(of: Source) -> str | None:
    """The identifier in the base's model card, here or on the hub; that of LiIT for a model that is shipped with it."""
    if of.config.model.path in SHIPPED:
        return "apache-2.0"
    return _in_card(of.folder / "README.md") or _on_hub(of.config.model.path)


def _in_card(card: Path) -> str | None:
    if not card.is_file():
        return None
    head = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.S)
    try:
        said = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        return None
    named = said.get("license_name") or said.get("license") if isinstance(said, dict) else None
    return str(named) if isinstance(named, str) else None


def _on_hub(path: str) -> str | None:
    if Path(path).is_dir():
        return None
    try:
        card = HfApi().model_info(path).card_data
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError):
        return None
    found = None if card is None else card.get("license_name") or card.get("license")
    return str(found) if isinstance(found, str) else None
