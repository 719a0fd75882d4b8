"""A model with experts, ready to answer: each sample of a batch by the expert that it is most like.

model = RoutedModel("runs/ours/t05/adapter")
model.answer([{"conversation": [{"role": "user", "text": "<image>\\nWhich digit is red?"}], "images": [{"path": ...}]}])
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from liit.engine.data.readers.images import open_image
from liit.engine.evaluation.answering import prompts_of, write_answers
from liit.engine.holding.task_features import first_question, spoken
from liit.engine.models import anatomy, loading
from liit.engine.models.adapters import speaking_as, with_adapters
from liit.engine.models.encoders import ImageEncoder, TextEncoder
from liit.engine.models.encoding import collate, encode_prompt, pad_id_of, placed
from liit.engine.models.experts import QUERIES, Experts, adapter_of
from liit.engine.scoring.vectors import mean_state, unit
from liit.engine.settings.specs import TemplateSpec

Sample = Mapping[str, Any]


class RoutedModel:
    """Base model, experts and keys of a finished adapter folder."""

    def __init__(self, folder: str | Path, model: str | None = None) -> None:
        """model: where the base model lies now, when it is not where it was. Raises FileNotFoundError without experts."""
        self.experts = Experts.load(Path(folder))
        about, tasks = self.experts.about["model"], self.experts.about["tasks"]
        path = model or about["path"]
        told = {name: about[name] for name in ("date", "template_kwargs") if name in about}
        self.processor = loading.load_processor(path, about["revision"], TemplateSpec(**told))
        loaded = loading.load_model(
            path, revision=about["revision"], dtype=about["dtype"], attention=about["attention"]
        )
        loaded = with_adapters(loaded, self.experts.adapters())
        self.model: Any = loaded.to("cuda" if torch.cuda.is_available() else "cpu")
        self.max_length: int = about["max_length"]
        self._image = ImageEncoder(tasks["image_encoder"]) if tasks["image_encoder"] else None
        self._text = TextEncoder(tasks["text_encoder"]) if tasks["text_encoder"] else None

    def answer(self, samples: Sequence[Sample], max_new_tokens: int = 32) -> list[str]:
        """Greedy answers in the order of the samples; those of one expert are written together."""
        samples = [_unanswered(sample) for sample in samples]
        chosen = self.route(samples)
        answers = [""] * len(samples)
        for expert in dict.fromkeys(chosen):
            mine = [at for at, name in enumerate(chosen) if name == expert]
            with speaking_as(self.model, adapter_of(expert)):
                limits = [max_new_tokens] * len(mine)
                prompts = prompts_of(self.processor, [samples[at] for at in mine], self.max_length)
                written = write_answers(self.model, self.processor, prompts, limits)
            for at, text in zip(mine, written, strict=True):
                answers[at] = text
        return answers

    @torch.no_grad()
    def route(self, samples: Sequence[Sample]) -> list[str]:
        """The name of each sample's expert, by what is asked before anything is answered."""
        samples = [first_question(_unanswered(sample)) for sample in samples]
        images = [[open_image(image) for image in sample["images"]] for sample in samples]
        queries = self._own(samples, images)
        if self._image is not None:
            queries["image"] = np.stack([self._image(own).numpy() for own in images])
        if self._text is not None:
            asked = [spoken(sample["conversation"], "user") for sample in samples]
            queries["instruction"] = np.stack([self._text(text).numpy() for text in asked])
        return self.experts.route(queries)

    def _own(self, samples: Sequence[Sample], images: Sequence[Any]) -> dict[str, np.ndarray]:
        """The queries that the model's own hidden states give, as `task_features.py` does."""
        prompts = [
            encode_prompt(self.processor, sample["conversation"], own, self.max_length)
            for sample, own in zip(samples, images, strict=True)
        ]
        inputs = collate(prompts, pad_id_of(self.processor))
        del inputs["response"]
        inputs = placed(inputs, self.model)
        layers = anatomy.decoder_layers(self.model)
        seen: dict[str, torch.Tensor] = {}
        hooks = [
            layer.register_forward_hook(_keep(seen, name))
            for name, layer in zip(QUERIES, (layers[0], layers[len(layers) // 2]), strict=True)
        ]
        try:
            with speaking_as(self.model, None):
                self.model(**inputs, use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        image_BS = inputs["input_ids"] == anatomy.image_token(self.model)
        masks = {"image": image_BS, "instruction": inputs["attention_mask"].bool() & ~image_BS}
        found = unit({name: mean_state(seen[name], masks[name]) for name in QUERIES})
        return {name: values.cpu().numpy().astype(np.float16) for name, values in found.items()}


def _unanswered(sample: Sample) -> Sample:
    """With an assistant turn at the end, which is to be written."""
    turns = list(sample["conversation"])
    answer = [] if turns[-1]["role"] == "assistant" else [{"role": "assistant", "text": ""}]
    return {**sample, "conversation": turns + answer, "images": list(sample.get("images") or [])}


def _keep(seen: dict[str, torch.Tensor], name: str) -> Any:
    def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        seen[name] = output[0] if isinstance(output, tuple) else output

    return hook
