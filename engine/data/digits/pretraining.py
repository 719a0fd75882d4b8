"""How the base models are made: the tower first, then frozen, then the projector and the language model together.

Trained all at once, digits are never read: the language model's first gradients destroy what the tower knows. So the
tower learns the digit and the colour of every patch, and is frozen, as LLaVA freezes CLIP. Then the projector and the
language model learn t0's tasks on the training digits, beside `language.PRETRAINING`, text alone.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from liit.engine.data.digits.canvas import CELL, COLOURS, GRID, SIDE, crops, render, scatter, split_crops
from liit.engine.data.digits.language import PRETRAINING
from liit.engine.data.digits.sight import BOX, BOX_OF_DIGIT, CAPTION, COLOUR, COUNT, DIGIT, LIST
from liit.engine.data.digits.task import Task, Turns, pick
from liit.engine.data.digits.tokenizer import EOS, IMAGE

Report = Callable[[str], None]
SHOWN = (DIGIT, COLOUR, COUNT, BOX, BOX_OF_DIGIT, CAPTION, LIST)
"""t0's tasks about one image."""


@dataclass(frozen=True)
class Schedule:
    """Steps, samples per step and the highest learning rate of both parts of the training."""

    tower_steps: int = 2500
    tower_batch: int = 64
    tower_rate: float = 1.5e-3
    phases: tuple[tuple[int, float, float], ...] = ((7000, 6e-4, 0.85), (1500, 4e-4, 0.55))
    """Of the language model: steps, highest learning rate, share of samples with an image. Looking comes first."""
    batch: int = 32
    chunks: int = 4
    shown: tuple[Task, ...] = SHOWN
    """What is asked about an image."""


CAPTIONS_ALONE = Schedule(phases=((4000, 6e-4, 0.85), (1000, 4e-4, 0.55)), shown=(CAPTION,))
"""A model that was never tuned to instructions jointly: it has learned to say what is there, as BLIP-2 and its kin have."""


def pretrain(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, schedule: Schedule, seed: int, report: Report
) -> None:
    """Trains the model in place."""
    _train_tower(model.model.vision_tower, schedule, seed, report)
    model.model.vision_tower.requires_grad_(False)
    for phase in range(len(schedule.phases)):
        _train_language(model, processor, schedule, phase, seed, report)


def _train_tower(tower: Any, schedule: Schedule, seed: int, report: Report) -> None:
    """Every patch becomes the sum of three codes: of its digit (or none), its colour (or none) and its place.

    The codes are orthogonal, so each of the three can be matched and read alone, and the digit's is the longest, as it is
    the least certain. With features from a classification loss instead, colours and strokes are so loud that attention
    never learns to match by digit or to read a place.
    """
    torch.manual_seed(seed)
    width = tower.config.hidden_size
    kinds = [11, len(COLOURS) + 1, GRID * GRID]
    basis = torch.linalg.qr(torch.randn(width, width)).Q
    digit_code, colour_code, place_code = basis[: sum(kinds)].split(kinds)
    rng = np.random.default_rng([seed, 21])
    parameters = list(tower.parameters())
    for step, optimizer in _steps(parameters, schedule.tower_steps, schedule.tower_rate):
        shown, digits, colours = _patchwork(rng, schedule.tower_batch)
        features = tower(shown, output_hidden_states=True).hidden_states[-1][:, 1:]
        wanted = 2.0 * digit_code[digits] + 1.5 * colour_code[colours] + 1.5 * place_code
        loss = (features - wanted).square().sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        _descend(optimizer, parameters)
        if step % 200 == 0:
            read = (features @ digit_code.T).argmax(-1)
            share = (read == digits)[digits < 10].float().mean().item()
            report(f"tower step {step}: loss {loss.item():.3f}, {share:.0%} of the digits read")


def _patchwork(rng: np.random.Generator, batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Crowded canvases: pixels (B, 3, 32, 32), digit (B, 16) with 10 for none, colour (B, 16) with 6 for none.

    Handwriting is shifted by up to a pixel and dimmed, so that unseen digits are read too.
    """
    palette = np.asarray(list(COLOURS.values()), np.float32)
    known = [(digit, crop) for digit in range(10) for crop in split_crops("training")[digit]]
    chosen = np.asarray(known)[rng.integers(len(known), size=(batch, GRID * GRID))]
    colours = rng.integers(len(palette), size=(batch, GRID * GRID))
    empty = rng.random((batch, GRID * GRID)) < 0.5
    padded = np.pad(crops(), ((0, 0), (1, 1), (1, 1)))
    canvas = np.zeros((batch, SIDE, SIDE, 3), np.float32)
    shifts = rng.choice([0, 1, 1, 2], size=(batch, GRID * GRID, 2))
    light = rng.uniform(0.8, 1.0, size=(batch, GRID * GRID))
    for row, cell in zip(*np.nonzero(~empty), strict=True):
        down, right = shifts[row, cell]
        ink = padded[chosen[row, cell, 1], down : down + CELL, right : right + CELL, None]
        top, left = cell // GRID * CELL, cell % GRID * CELL
        canvas[row, top : top + CELL, left : left + CELL] = ink * palette[colours[row, cell]] * light[row, cell]
    digits = np.where(empty, 10, chosen[..., 0])
    return pixels(canvas), torch.from_numpy(digits), torch.from_numpy(np.where(empty, len(palette), colours))


def pixels(canvas: np.ndarray) -> torch.Tensor:
    """(B, 32, 32, 3) of 0..255 to (B, 3, 32, 32) of -1..1, as the processor does it."""
    return torch.from_numpy((canvas.astype(np.float32) / 255 - 0.5) / 0.5).permute(0, 3, 1, 2).contiguous()


def _train_language(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    schedule: Schedule,
    phase: int,
    seed: int,
    report: Report,
) -> None:
    steps, rate, image_share = schedule.phases[phase]
    rng = np.random.default_rng([seed, 22 + phase])
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.train()
    for step, optimizer in _steps(parameters, steps, rate):
        seen = int(rng.binomial(schedule.batch, image_share))
        rows = [_seen(rng, processor, schedule.shown) for _ in range(seen)]
        rows += [_read(rng, processor) for _ in range(schedule.batch - seen)]
        optimizer.zero_grad()
        loss = _learn(model, rows, schedule.chunks)
        _descend(optimizer, parameters)
        if step % 200 == 0:
            report(f"language step {step}: loss {loss:.3f}")
    model.eval()


class Row(NamedTuple):
    """One sample: token ids, which of them are learned, and its canvases."""

    ids: list[int]
    learned: list[bool]
    canvases: list[np.ndarray]


def _seen(rng: np.random.Generator, processor: LlavaProcessor, shown: tuple[Task, ...]) -> Row:
    """A canvas of training digits and one of the questions about it; of several, later answers copy earlier ones."""
    scene = scatter(rng, "training", 1, 5)
    ids, learned = tokens(processor, pick(rng, shown).ask(rng, (scene,)), images=1)
    return Row(ids, learned, [render(scene, float(rng.uniform(0.85, 1.0)))])


def _read(rng: np.random.Generator, processor: LlavaProcessor) -> Row:
    ids, learned = tokens(processor, pick(rng, PRETRAINING).ask(rng, ()), images=0)
    return Row(ids, learned, [])


def _learn(model: LlavaForConditionalGeneration, rows: list[Row], chunks: int) -> float:
    """Adds the gradient of the mean loss over the rows' learned tokens; rows of like length go together, which spares
    most of the padding. Returns the loss."""
    rows = sorted(rows, key=lambda row: len(row.ids))
    total = sum(sum(row.learned) for row in rows)
    value = 0.0
    for start in range(0, len(rows), len(rows) // chunks):
        inputs, labels = _pad(rows[start : start + len(rows) // chunks])
        hidden = model.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
        scores = model.lm_head(hidden[labels[:, 1:] >= 0])
        loss = F.cross_entropy(scores, labels[:, 1:][labels[:, 1:] >= 0], reduction="sum") / total
        loss.backward()
        value += loss.item()
    return value


def _pad(rows: list[Row]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Inputs of a forward and labels, -1 where nothing is learned; padded on the right with token 0."""
    width = max(len(row.ids) for row in rows)
    input_ids = torch.zeros((len(rows), width), dtype=torch.long)
    attention = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, -1)
    for at, row in enumerate(rows):
        input_ids[at, : len(row.ids)] = torch.tensor(row.ids)
        attention[at, : len(row.ids)] = 1
        labels[at, : len(row.ids)] = torch.tensor(np.where(row.learned, row.ids, -1))
    inputs = {"input_ids": input_ids, "attention_mask": attention}
    canvases = [canvas for row in rows for canvas in row.canvases]
    return ({**inputs, "pixel_values": pixels(np.stack(canvases))} if canvases else inputs), labels


def tokens(processor: LlavaProcessor, turns: Turns, images: int) -> tuple[list[int], list[bool]]:
    """Token ids and response mask of a sample: what `encoding.encode` gives, faster, for this template alone."""
    tokenizer = processor.tokenizer
    ids: list[int] = []
    response: list[bool] = []
    for position, (question, answer) in enumerate(turns):
        if position == 0 and images and IMAGE not in question:
            question = f"{IMAGE}\n{question}"
        question = question.replace(IMAGE, IMAGE * (GRID * GRID))
        for text, learned in ((f"USER: {question} ASSISTANT:", False), (f" {answer}{EOS}", True)):
            new = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += new
            response += [learned] * len(new)
    return ids, response


def _steps(parameters: list[nn.Parameter], steps: int, rate: float) -> Iterator[tuple[int, torch.optim.Optimizer]]:
    """Adam with a short warm-up and a cosine to zero."""
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    for step in range(steps):
        warm = min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
        yield step, optimizer


def _descend(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
