"""From a configuration to what the profiler computes; apart from both, so that neither needs the other's packages."""

from dataclasses import replace
from pathlib import Path

from liit.engine.config import Config
from liit.engine.custom import known
from liit.engine.experts import Experts, is_experts
from liit.engine.profile_spec import MAIN, ProfilerSpec


def plain_spec(config: Config, adapter: Path | None, vectors: tuple[str, ...] = ()) -> ProfilerSpec:
    """Of a model nothing but these vectors: settings of what scores the pool have no part in it."""
    spec = profiler_spec(config, adapter, (), ())
    return replace(spec, scores=("nll",), vectors=vectors, sketches={}, reference=None, custom={}, lora=None)


def profiler_spec(
    config: Config, adapter: Path | None, scores: tuple[str, ...], vectors: tuple[str, ...]
) -> ProfilerSpec:
    """What a strategy needs of the pool, and nothing else, with the model of the timestep."""
    scoring, lora = config.scoring, config.training.lora
    of_adapters = any(one.parameters == "lora" for one in (scoring.gradient, *scoring.sketches.values()))
    wanted = dict.fromkeys((*scores, *scoring.scores))
    if "forgetting" in wanted:  # it is told from the lowest nll so far
        wanted["nll"] = None
    return ProfilerSpec(
        model=config.model.path,
        adapter=None if adapter is None else str(adapter),
        experts=Experts.load(adapter).adapters() if adapter is not None and is_experts(adapter) else {},
        revision=config.model.revision,
        dtype=config.model.dtype,
        attention=config.model.attention,
        max_length=config.model.max_length,
        scores=tuple(wanted),
        vectors=tuple(dict.fromkeys((*vectors, *scoring.vectors))),
        sketches={name: one.spec() for name, one in {MAIN: scoring.gradient, **scoring.sketches}.items()},
        embedding=scoring.embedding,
        embedding_layers=scoring.embedding_layer,
        reference=scoring.reference,
        custom=known(scoring.custom),
        no_image=scoring.no_image,
        padding_side=scoring.padding_side,
        fuse=scoring.fuse,
        lora=lora.model_dump() | {"projector": False, "seed": config.seed} if of_adapters else None,
        seed=0,
    )
