"""Encoders of tasks from the hub: any vision model for images, any text model for instructions and answers.

Needs no network where the folder is local. By default tasks are compared by the model's own hidden states instead
(`task_features.py`), which know every language that the model knows.
"""

from collections.abc import Callable, Sequence
from typing import Any

import PIL.Image
import torch
from torch.nn.functional import normalize
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from liit.engine.models import loading
from liit.engine.models.anatomy import ModelError

TOKENS = 128
"""Of a text, the last ones (He et al.)."""


def load_image_processor(path: str) -> Any:
    """Raises ModelError, one line, where there is none."""
    return _loaded(path, lambda folder: AutoImageProcessor.from_pretrained(folder, backend="pil"))


def load_tokenizer(path: str) -> Any:
    """Raises ModelError, one line, where there is none."""
    return _loaded(path, lambda folder: AutoTokenizer.from_pretrained(folder, truncation_side="left"))


class ImageEncoder:
    """The pooled output of a vision model, else that of its first token."""

    def __init__(self, path: str) -> None:
        self.processor = load_image_processor(path)
        model = AutoModel.from_pretrained(loading.locate(path), use_safetensors=True)
        self.tower = _placed(getattr(model, "vision_model", model))  # of CLIP and its kin, the half that sees
        self.size = len(self([PIL.Image.new("RGB", (64, 64))]))

    @torch.no_grad()
    def __call__(self, images: Sequence[PIL.Image.Image]) -> torch.Tensor:
        """(D,), on the CPU: the mean of the unit vectors of a sample's images, zero for none."""
        if not images:
            return torch.zeros(self.size)
        out = self.tower(**self.processor(images=list(images), return_tensors="pt").to(self.tower.device))
        pooled = getattr(out, "pooler_output", None)
        return normalize(out.last_hidden_state[:, 0] if pooled is None else pooled, dim=1).mean(0).cpu()


class TextEncoder:
    """The mean of the last layer's states, which encoders and decoders both have (He et al.: BERT's first token)."""

    def __init__(self, path: str) -> None:
        self.tokenizer = load_tokenizer(path)
        self.model = _placed(AutoModel.from_pretrained(loading.locate(path), use_safetensors=True))
        self.size = len(self("a"))

    @torch.no_grad()
    def __call__(self, text: str) -> torch.Tensor:
        """(D,), on the CPU: of unit length, zero for a text without tokens."""
        if not text:
            return torch.zeros(self.size)
        tokens = self.tokenizer(text, truncation=True, max_length=TOKENS, return_tensors="pt").to(self.model.device)
        return normalize(self.model(**tokens).last_hidden_state[0].mean(0), dim=0).cpu()


def _loaded(path: str, load: Callable[[str], Any]) -> Any:
    try:
        return load(loading.locate(path))
    except (OSError, ValueError, TypeError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"encoder {path}: cannot be loaded ({reason})") from error


def _placed(model: Any) -> Any:
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
