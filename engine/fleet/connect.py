"""Joining a Ray cluster, or starting a local one; only when there is work that needs it."""

import logging
import os
from pathlib import Path

import liit
from liit.engine.run.progress import log
from liit.engine.settings.sections import Resources

STAYING = {"RAY_idle_worker_killing_time_threshold_ms": "600000"}
"""Environment of a Ray without GPUs: processes beyond its CPUs stay for ten minutes. By default they are killed after one idle
second, and every stage would import torch and transformers anew in each of them."""


def connect(resources: Resources) -> None:
    """Connect to Ray once per process.

    A job submitted to a cluster, RAY_ADDRESS or `resources.address` name a running cluster; otherwise a local one is
    started, whose processes end with this one.
    """
    import ray  # a second; what finds no work, and a worker that is used without Ray, does without

    if ray.is_initialized():
        return
    address = resources.address or os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address=address, log_to_driver=False)  # what fails elsewhere is said here, and kept in the run folder
        log.info("Ray: joined the cluster at %s with %s", address, _size())
        return
    root = str(Path(liit.__file__).resolve().parents[1])  # workers find liit where this process did, installed or not
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if root not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([*paths, root])
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # every actor pool would print an error that is none
    if not resources.gpus_per_actor and not resources.gpus_per_worker:  # else they would keep a GPU's memory
        for name, value in STAYING.items():
            os.environ.setdefault(name, value)
    logging.getLogger("ray").setLevel(logging.WARNING)
    for last_try in (False, True):
        try:
            ray.init(address="local", num_cpus=resources.num_cpus, include_dashboard=False, log_to_driver=False)
            break
        except Exception as error:  # Ray has no narrower type for a node that was not up within its 30 s
            if last_try or "timed out during startup" not in str(error):
                raise
            log.info("Ray did not start in time on this busy machine; trying once more")
            ray.shutdown()
    log.info("Ray: started on this machine with %s", _size())


def _size() -> str:
    import ray

    total = ray.cluster_resources()
    return f"{total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} GPUs"
