"""What every training worker runs: one pass over the plan, an exact global-batch loss per optimizer step, checkpoints.

What a step is, is in `step.py`. A loss or gradient that is not finite ends the training on all ranks before the step is saved
(`finite.py`).
"""

import json
import logging
import time
import warnings

import torch
import transformers

from liit.engine.models import loading
from liit.engine.training import finite, state, zero
from liit.engine.training.job import TrainJob
from liit.engine.training.plan import Plan, dropout_seed, rate
from liit.engine.training.samples import TrainingSamples, read_ahead
from liit.engine.training.side_by_side import layout, side_by_side
from liit.engine.training.step import Step, Taken


def run(job: TrainJob) -> None:
    """Train from the last checkpoint, or from the start, to the end of the plan; leave the adapter at `job.partial`,
    or a note at `job.stopped` where a loss or gradient is not finite."""
    _quiet()
    job.stopped.unlink(missing_ok=True)
    torch.set_num_threads(max(1, int(job.cpus)))  # the process may have served another stage before
    processor = loading.load_processor(job.model.path, job.model.revision, job.model.template())
    samples = TrainingSamples(job.samples, processor, job.model.max_length)
    training = job.training
    sizes = training.epochs, training.batch_size, training.micro_batch_size, training.micro_batch_tokens
    plan = Plan(samples.lengths_N, samples.images_N, job.seed, *sizes)
    built = zero.build(job)
    engine, peaks = built.engine, built.peaks
    laid = layout(engine.module, samples)  # by the weights that it began with: as before, when it is resumed
    history = state.restore_checkpoint(engine)
    step_of = Step(built, zero.named(training.penalties))
    for batches in read_ahead(samples, plan, history.steps, laid):
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
        "side_by_side": laid is side_by_side,
    }
    state.export(job, engine, history, about)


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
