"""From a configuration to what the profiler computes; apart from both, so that neither needs the other's packages."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from liit.engine.models.experts import Experts, is_experts
from liit.engine.scoring.custom import known
from liit.engine.scoring.profile_spec import MAIN, ProfilerSpec
from liit.engine.settings.config import Config
from liit.engine.settings.sections import Scoring


def plain_spec(config: Config, adapter: Path | None, vectors: tuple[str, ...] = ()) -> ProfilerSpec:
    """Of a model nothing but these vectors: settings of what scores the pool have no part in it."""
    spec = profiler_spec(config, adapter, (), ())
    return replace(spec, scores=("nll",), vectors=vectors, sketches={}, reference=None, custom={}, lora=None)


def fresh_lora(config: Config) -> dict[str, Any]:
    """The LoRA that t1 begins with, for `adapters.add_lora`."""
    return config.training.lora.model_dump() | {"projector": False, "seed": config.seed + 1}


def profiler_spec(
    config: Config, adapter: Path | None, scores: tuple[str, ...], vectors: tuple[str, ...]
) -> ProfilerSpec:
    """What a strategy needs of the pool, and nothing else, with the model of the timestep."""
    scoring = config.scoring
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
        template=config.model.template(),
        scores=tuple(wanted),
        vectors=tuple(dict.fromkeys((*vectors, *scoring.vectors))),
        sketches={
            name: one.spec(config.model.dtype) for name, one in {MAIN: scoring.gradient, **scoring.sketches}.items()
        },
        embedding=scoring.embedding,
        embedding_layers=scoring.embedding_layer,
        reference=scoring.reference,
        custom=known(scoring.custom),
        no_image=scoring.no_image,
        padding_side=scoring.padding_side,
        fuse=scoring.fuse,
        lora=fresh_lora(config) if of_adapters else None,
        seed=0,
    )


def made_by(spec: ProfilerSpec, scoring: Scoring, model_mark: str) -> dict[str, object]:
    """What a profile is made by, for its record: models by what they are, in place of where they lie."""
    sketches = {name: asdict(one) | {"model": mark(one.model)} for name, one in spec.sketches.items()}
    others = {"reference": mark(spec.reference), "sketches": sketches}
    plain = {name: value for name, value in asdict(spec).items() if name not in ("adapter", "experts")}
    return {
        "profile": plain | {"model": model_mark, **others},
        "scoring": scoring.model_dump(include={"samples_per_batch", "tokens_per_batch"}),
    }


def mark(model: str | None) -> str | None:
    """The fingerprint of a model; None for none."""
    if model is None:
        return None
    from liit.engine.models.fingerprint import fingerprint  # torch and transformers: a plan does without

    return fingerprint(model)
