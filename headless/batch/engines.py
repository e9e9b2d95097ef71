"""Who calls the workers: a loop here, or Ray. Both take groups of pictures as they can use them."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..execution import NodeError
from ..graph import WorkflowError
from ..pack import Pack
from .plan import Job
from .worker import Outcome, Picture, Worker, plain

Groups = Iterator[list[Picture]]

ROOT = Path(__file__).resolve().parents[2]
AHEAD = 2  # groups per actor that are under way: one computed, one waiting
ANSWER = 5.0  # seconds to wait for a cluster's port
NOT_SENT = ["/.git", "/.venv", "/output", "/assets", "/benchmarks", "/tests", "/training", "/web",
            "/workflows", "__pycache__"]


def local(job: Job, pack: Pack, groups: Groups) -> Iterator[list[Outcome]]:
    """One worker, in this process.

    Raises:
        NodeError: what all pictures share cannot be computed.
    """
    worker = Worker(job, pack)
    worker.prepare()
    for group in groups:
        yield worker.work(group)


@dataclass(frozen=True)
class Cluster:
    """What to ask of Ray.

    workers: actors. gpus: of each, a fraction; None is one where the cluster has any. address:
    host:port, ray://host:port or "auto" of a running cluster; None starts one on this machine.
    """

    workers: int = 1
    gpus: float | None = None
    address: str | None = None


def on_ray(job: Job, cluster: Cluster, groups: Groups) -> Iterator[list[Outcome]]:
    """Actors that Ray distributes, each with a worker of its own.

    An actor gets its next group when one of its results has been taken, so that no more than a few
    groups are in memory, however fast or slow files are read and written. An actor that dies is
    started again and its group tried once more; failing twice, the group's pictures are reported.

    Raises:
        WorkflowError: Ray is not installed, the address does not answer, or the cluster is too
            small.
        NodeError: what all pictures share cannot be computed.
    """
    ray = _start(job, cluster)
    try:
        actors = _actors(ray, job, cluster)
        under_way: dict[Any, tuple[Any, list[Picture]]] = {}

        def feed(actor: Any) -> None:
            if group := next(groups, None):
                under_way[actor.work.remote(group)] = actor, group

        for _ in range(AHEAD):
            for actor in actors:
                feed(actor)
        while under_way:
            (done, *_), _ = ray.wait(list(under_way), num_returns=1)
            actor, group = under_way.pop(done)
            try:
                outcomes = ray.get(done)
            except ray.exceptions.RayError as error:
                outcomes = [_lost(picture, error) for picture in group]
            del done
            yield outcomes
            feed(actor)
    finally:
        ray.shutdown()


def _lost(picture: Picture, error: Exception) -> Outcome:
    text = f"the worker died: {' '.join(str(error).split())[:300]}"
    return Outcome(picture._replace(data=b""), {}, 0.0, {}, text)


def _start(job: Job, cluster: Cluster) -> Any:
    """Ray, connected."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # gpus 0: a worker sees none
    try:
        import ray
    except ImportError as error:
        raise WorkflowError("--engine ray needs Ray: pip install ray, or leave "
                            "--engine out.") from error
    quiet: dict[str, Any] = {
        "include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}
    if cluster.address is None:
        ray.init(address="local", num_cpus=cluster.workers * job.threads, **quiet)
        return ray
    _expect_answer(cluster.address)
    del quiet["include_dashboard"]
    sent = {"working_dir": str(ROOT), "excludes": NOT_SENT}
    try:
        ray.init(address=cluster.address, runtime_env=sent, **quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise _silent(cluster.address, str(error)) from error
    return ray


def _expect_answer(address: str) -> None:
    """Try the port first: Ray itself would go on trying for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        raise WorkflowError(f"--address {address}: expected host:port, ray://host:port or auto.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()
    except (OSError, OverflowError) as error:
        raise _silent(address, str(error)) from error


def _silent(address: str, why: str) -> WorkflowError:
    return WorkflowError(
        f"--address {address}: no Ray cluster answers there ({' '.join(why.split())[:200]}); start "
        "one with ray start --head, and set RAY_AUTH_MODE=token here if it asks for a token.")


def _actors(ray: Any, job: Job, cluster: Cluster) -> list[Any]:
    """The actors, each with its prior loaded."""
    there = ray.cluster_resources()
    gpus = cluster.gpus if cluster.gpus is not None else float(there.get("GPU", 0) > 0)
    for name, needed, option in (("CPU", cluster.workers * job.threads, "--workers or --threads"),
                                 ("GPU", cluster.workers * gpus, "--workers or --gpus")):
        if needed > there.get(name, 0):
            raise WorkflowError(f"--workers {cluster.workers}: they need {needed:g} {name}, "
                                f"but the cluster has {there.get(name, 0):g}; lower {option}.")
    root = None if cluster.address else str(ROOT)
    actor = ray.remote(num_cpus=job.threads, num_gpus=gpus, max_restarts=-1,
                       max_task_retries=1)(_remote_class())
    actors = [actor.remote(root, __name__.rpartition(".headless")[0], plain(job))
              for _ in range(cluster.workers)]
    try:
        problems = ray.get([actor.prepare.remote() for actor in actors])
    except ray.exceptions.RayError as error:
        raise NodeError(f"a worker did not start: {' '.join(str(error).split())[-300:]}") from error
    for problem in problems:
        if problem:
            raise NodeError(problem)
    return actors


def _remote_class() -> type:
    """A class that Ray sends to other processes as it stands here: they cannot import it."""

    class Remote:
        def __init__(self, root: str | None, name: str, job: dict[str, Any]):
            import importlib
            import importlib.util
            import os
            import sys

            if name not in sys.modules:
                place = root or os.getcwd()  # where Ray has put what was sent
                spec = importlib.util.spec_from_file_location(
                    name, os.path.join(place, "__init__.py"), submodule_search_locations=[place])
                sys.modules[name] = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
            self.failure = importlib.import_module(f"{name}.headless.execution").NodeError
            here = importlib.import_module(f"{name}.headless.batch.engines")
            self.worker = here.worker_of(job)

        def prepare(self) -> str | None:
            try:
                self.worker.prepare()
            except self.failure as error:
                return str(error)
            return None

        def work(self, pictures: list) -> list:
            return self.worker.work(pictures)

    return Remote


def worker_of(job: dict[str, Any]) -> Worker:
    """A worker of this pack, in whatever process this is."""
    return Worker(Job(**job), Pack.load())


def groups_of(pictures: Iterator[Picture], together: int) -> Groups:
    """Pictures of equal size side by side, at most ``together``; few wait for others of their size.

    Where a group's pictures come out does not change what they are (see ``lockstep``).
    """
    if together == 1:
        yield from ([picture] for picture in pictures)
        return
    waiting: dict[Any, list[Picture]] = {}
    for picture in pictures:
        size = _size(picture.data)
        waiting.setdefault(size, []).append(picture)
        if len(waiting[size]) == together:
            yield waiting.pop(size)
        elif sum(map(len, waiting.values())) > 4 * together:
            yield waiting.pop(max(waiting, key=lambda s: len(waiting[s])))
    yield from waiting.values()


def _size(data: bytes) -> tuple[int, int] | None:
    """(width, height), from the file's head; None of what is no picture."""
    from io import BytesIO

    from PIL import Image

    with suppress(OSError, SyntaxError, ValueError, Image.DecompressionBombError), \
            Image.open(BytesIO(data)) as image:
        return image.size
    return None
