"""What every training worker runs: one pass over the plan, an exact global-batch loss per optimizer step, checkpoints.

The loss of a step is the sum of the response tokens' negative log-likelihoods over all ranks and micro-batches, divided
by the number of these tokens. DeepSpeed averages gradients over the ranks, so each rank multiplies its part by their
number. A loss or gradient that is not finite ends the training on all ranks before the step is saved (`finite.py`).
"""

import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch.nn import functional as F

from liit.engine.holding.distilling import divergence
from liit.engine.models import anatomy, loading
from liit.engine.settings.training import Regulariser
from liit.engine.training import finite, state, zero
from liit.engine.training.job import TrainJob
from liit.engine.training.plan import Plan, dropout_seed, rate
from liit.engine.training.samples import TrainingSamples

Batch = dict[str, torch.Tensor]


def run(job: TrainJob) -> None:
    """Train from the last checkpoint, or from the start, to the end of the plan; leave the adapter at `job.partial`,
    or a note at `job.stopped` where a loss or gradient is not finite."""
    _quiet()
    job.stopped.unlink(missing_ok=True)
    torch.set_num_threads(max(1, int(job.cpus)))  # the process may have served another stage before
    processor = loading.load_processor(job.model.path, job.model.revision, job.model.template())
    samples = TrainingSamples(job.samples, processor, job.model.max_length)
    training = job.training
    plan = Plan(
        samples.lengths_N, samples.images_N, job.seed, training.epochs, training.batch_size, training.micro_batch_size
    )
    built = zero.build(job)
    engine, peaks = built.engine, built.peaks
    history = state.restore_checkpoint(engine)
    step_of = Step(built, zero.named(training.penalties), training.regulariser)
    for batches in _batches(samples, plan, history.steps):
        start, step = time.monotonic(), history.steps
        torch.manual_seed(
            dropout_seed(job.seed, step, torch.distributed.get_rank())
        )  # dropout knows no other generator
        share = rate(step, plan.steps, training.schedule, training.warmup)
        taken = step_of(batches, [peak * share for peak in peaks])
        if figure := finite.at_fault(taken.loss, taken.penalty, taken.norm):
            _stop(job, step, plan, samples, taken, figure, engine.device)
            return
        history.losses.append(taken.loss)
        history.penalties.append(taken.penalty)
        history.tokens.append(taken.tokens)
        history.rates.append(peaks[0] * share)
        history.seconds += time.monotonic() - start
        _tell(job, history, plan.steps)
        if history.steps % training.checkpoint_every == 0 or history.steps == plan.steps:
            state.save_checkpoint(engine, history)
    about = {
        "steps": plan.steps,
        "epochs": training.epochs,
        "samples": len(samples.lengths_N),
        "response_tokens": sum(history.tokens[: plan.steps_per_epoch]),
        "workers": training.workers,
    }
    state.export(job, engine, history, about)


def _batches(samples: TrainingSamples, plan: Plan, first: int) -> Iterator[list[Batch]]:
    """This rank's micro-batches of every step from `first` on; the next step's are made while one is trained on."""
    rank, workers = torch.distributed.get_rank(), torch.distributed.get_world_size()

    def make(step: int) -> list[Batch]:
        return [samples.batch(part) for part in plan.share(step, rank, workers)]

    with ThreadPoolExecutor(max_workers=1) as ahead:
        coming = ahead.submit(make, first) if first < plan.steps else None
        for step in range(first, plan.steps):
            assert coming is not None
            batches = coming.result()
            if step + 1 < plan.steps:
                coming = ahead.submit(make, step + 1)
            yield batches


@dataclass(frozen=True)
class Taken:
    """What a step was, the same on all ranks but for `odd`."""

    loss: float
    """Nats per response token."""
    tokens: int
    penalty: float
    """What penalties and regulariser added to the loss."""
    norm: float
    """Of the gradient."""
    odd: tuple[int, ...]
    """This rank's micro-batches whose own loss is not finite."""


@dataclass
class Step:
    """One optimizer step: the loss of the global batch, and what holds the model to what it knew."""

    built: zero.Built
    penalties: list[Callable[[Any], Any]]
    regulariser: Regulariser | None

    def __call__(self, batches: list[Batch], rates: list[float]) -> Taken:
        engine, workers = self.built.engine, torch.distributed.get_world_size()
        count = sum(int(_wanted(batch).sum()) for batch in batches)
        tokens = _total(torch.tensor(float(count), dtype=torch.float64), engine.device)
        total, added = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        odd = []
        for number, batch in enumerate(batches, start=1):
            last = number == len(batches)
            engine.set_gradient_accumulation_boundary(last)
            with self.built.anchor.watched() if last and self.built.anchor else nullcontext():
                nll, apart = self._nll_and_divergence(_placed(batch, engine))
                mine = nll.detach().double().cpu()
                total += mine
                odd += [] if mine.isfinite() else [number - 1]
                added += apart.detach().double().cpu() / tokens
                held = self._penalty() if last else torch.zeros(())
                added += held.detach().double().cpu() / workers
                loss = (nll + apart) * (workers / tokens) + held.to(nll.device)
                engine.backward(loss if loss.requires_grad else _untouched(engine.module), scale_wrt_gas=False)
        for group, now in zip(engine.optimizer.param_groups, rates, strict=True):
            group["lr"] = now
        norm = zero.step(engine)
        mean = _total(total, engine.device) / tokens
        return Taken(mean, int(tokens), _total(added, engine.device), norm, tuple(odd))

    def _nll_and_divergence(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the response tokens, summed, in nats; the divergence from the teacher times its strength."""
        engine, teacher = self.built.engine, self.built.teacher
        if teacher is None or self.regulariser is None:
            return nll_of(response_logits(engine, engine.module, batch), batch), torch.zeros((), device=engine.device)
        with teacher.speaking(engine.module):
            before_MV = response_logits(engine.module, engine.module, batch)
        logits_MV = response_logits(engine, engine.module, batch)
        return nll_of(logits_MV, batch), self.regulariser.strength * divergence(before_MV, logits_MV)

    def _penalty(self) -> torch.Tensor:
        anchored = [self.built.anchor.penalty()] if self.built.anchor else []
        return sum((penalty(self.built.engine.module) for penalty in self.penalties), sum(anchored, torch.zeros(())))


def _untouched(model: Any) -> torch.Tensor:
    """Zero, with a graph: of a micro-batch that no trained weight has a part in, like text under projector experts."""
    return sum((0.0 * weight.sum() for weight in model.parameters() if weight.requires_grad), torch.zeros(()))


def response_logits(forward: Any, model: Any, batch: Batch) -> torch.Tensor:
    """(M, V) logits of the positions that predict response tokens, each given all tokens before it. The head sees no other.

    forward: the model, or the engine around it.
    """
    inputs = {name: value for name, value in batch.items() if name != "response"}
    with anatomy.head_at(model, F.pad(_wanted(batch), (0, 1))):
        logits: torch.Tensor = forward(**inputs, use_cache=False).logits[0]
    return logits


def nll_of(logits_MV: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Sum of the response tokens' negative log-likelihoods in nats, a scalar."""
    return F.cross_entropy(logits_MV.float(), batch["input_ids"][:, 1:][_wanted(batch)], reduction="sum")


def _wanted(batch: Batch) -> torch.Tensor:
    """(B, S - 1) bool: which next tokens are response tokens. The first token of a text is nobody's next."""
    return batch["response"][:, 1:]


def _placed(batch: Batch, engine: Any) -> Batch:
    dtype = next(engine.module.parameters()).dtype
    return {
        name: value.to(engine.device, dtype if value.is_floating_point() else None, non_blocking=True)
        for name, value in batch.items()
    }


def _total(value: torch.Tensor, device: torch.device) -> float:
    """Sum of a scalar over the ranks."""
    value = value.to(device)
    torch.distributed.all_reduce(value)
    return value.item()


def _stop(
    job: TrainJob,
    step: int,
    plan: Plan,
    samples: TrainingSamples,
    taken: Taken,
    figure: tuple[str, float],
    device: torch.device,
) -> None:
    """Leave a note of the samples whose micro-batches have no finite loss, on whatever rank; else of the whole step's."""
    rank, workers = torch.distributed.get_rank(), torch.distributed.get_world_size()
    shares = [plan.share(step, each, workers) for each in range(workers)]
    odd_WB = torch.zeros((workers, len(shares[0])), device=device)
    odd_WB[rank, list(taken.odd)] = 1
    torch.distributed.all_reduce(odd_WB)
    if rank == 0:
        parts = [shares[worker][number] for worker, number in odd_WB.nonzero().tolist()]
        rows = [row for part in parts for row, weight in zip(part.rows, part.weights, strict=True) if weight]
        if figure[0] == "penalty":
            rows = []
        elif not rows:
            rows = plan.batch(step).tolist()
        ids = sorted(samples.id_of(row) for row in rows)
        finite.leave_note(job.stopped, step + 1, plan.steps, figure, ids)


def _tell(job: TrainJob, history: state.History, steps: int) -> None:
    if torch.distributed.get_rank() == 0:
        with job.progress.open("a", encoding="utf-8") as stream:
            line = {"step": history.steps, "steps": steps, "loss": history.losses[-1]}
            stream.write(json.dumps(line) + "\n")


def _quiet() -> None:
    """Errors only: what DeepSpeed and transformers say in between is about options that are chosen on purpose here."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
