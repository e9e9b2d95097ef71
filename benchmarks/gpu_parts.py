"""Parts of `gpu.py` that look into a run: its steps, its updates, InvSR's networks, regions."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import torch
from gpu_networks import ffhq_size, sd_turbo_size
from gpu_runs import Asked, Row, built_in, measured, recordings, seconds_of, ways
from inversion_overhead import Clock, Timed
from photos import EVALUATION, photos
from region_packing import heap_sizes, lockstep_sizes
from tasks import operators
from torch import Tensor

from undegrade import NODE_CLASS_MAPPINGS
from undegrade.models.prior import MultiResolutionPrior, Prior
from undegrade.nodes.comfyui import host
from undegrade.nodes.comfyui.recorded import played
from undegrade.nodes.images import to_image
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.replay import Replay, ReplayedPrior
from undegrade.pipelines.step import Step
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def steps_of(
    prior: Prior, side: int, steps: int, device: torch.device, replay: Replay
) -> Iterator[Step]:
    """The Posterior Sampler's own loop for super-resolution of a random picture."""
    m = measured(side, side, operators(1, side)["super_resolution"])
    m, options = m.at(m.operator, m.y.to(device)), SamplerOptions(steps=steps)
    return restore(
        prior, m, schedule_for(prior, options), ConjugateGradient(), per_sample_noise([0]),
        renoise=options.renoise, complementary=options.complementary, replay=replay,
    )  # fmt: skip


def step_part(asked: Asked) -> Iterator[Row]:
    """One step of the built-in prior at full size: seconds, and what a profile of it counts."""
    prior, many = built_in("float32"), 2 if asked.small else 8
    side, steps, before = (64, 9, 6) if asked.small else (256, 60, 43)
    for way, allowed in ways(asked):
        with recordings(allowed), host.running(prior), played(prior, asked.device) as pair:
            run = steps_of(pair[0], side, steps, asked.device, pair[1])
            while next(run).index < before:
                pass

            def some(run: Iterator[Step] = run) -> None:
                for _ in range(many):
                    next(run)

            seconds, more = seconds_of(some, asked.device) / many, None
            if asked.device.type == "cuda":
                with torch.profiler.profile() as profile:
                    some()
                    torch.cuda.synchronize()
                more = counted(profile, many)
        yield f"a step at {side}x{side}, {way}", seconds, None, None, None, more


def counted(profile: Any, steps: int) -> dict[str, float]:
    """A step's launches, graphs, kernels, waits, and milliseconds of work and of gaps."""
    events = list(profile.events())
    names = [event.name for event in events]
    device = [e for e in events if e.device_type == torch.autograd.DeviceType.CUDA]
    spans = sorted((e.time_range.start, e.time_range.end) for e in device)
    busy, until = 0.0, 0.0
    for begin, finish in spans:
        busy += max(0.0, finish - max(begin, until))
        until = max(until, finish)
    found = {
        "launches": sum(name.startswith("cudaLaunchKernel") for name in names),
        "graphs": names.count("cudaGraphLaunch"),
        "copies": names.count("cudaMemcpyAsync"),
        "kernels": len(device),
        "waits": sum(name in WAITS for name in names) - 1,  # the last one is the measurement's
        "ms of work": busy / 1e3,
        "ms of gaps": (until - spans[0][0] - busy) / 1e3 if spans else 0.0,
    }
    return {name: round(number / steps, 3) for name, number in found.items()}


class Watched:
    """A `Replay` that notes how long networks and updates take on the device."""

    def __init__(self, replay: Replay, device: torch.device) -> None:
        self.replay, self.on_cuda = replay, device.type == "cuda"
        self.spans: dict[Hashable, list[Any]] = defaultdict(list)

    def __call__(self, key: Any, work: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """The work, between two marks."""
        begin = self.mark()
        done = self.replay(key, work, *tensors)
        kind = "network" if hasattr(key[0], "denoise") else "update"
        self.spans[kind, tensors[0].shape].append((begin, self.mark()))
        return done

    def mark(self) -> Any:
        """A moment."""
        if not self.on_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, kind: str) -> float:
        """Of all calls of a kind, those that were launched and recorded counted as the others."""
        total = 0.0
        for (found, _), pairs in self.spans.items():
            if found == kind:
                took = sorted(
                    a.elapsed_time(b) / 1e3 if self.on_cuda else b - a for a, b in pairs
                )
                total += took[len(took) // 2] * len(took)
        return total


def update_part(asked: Asked) -> Iterator[Row]:
    """How much of a run goes into measurement updates, at three resolutions."""
    side, steps = (64, 9) if asked.small else (256, 50)
    ffhq = MultiResolutionPrior(ffhq_size(asked.channels, asked.device, torch.float32))
    for name, prior in (("built-in", built_in("float32")), ("FFHQ size", ffhq)):
        for way, allowed in ways(asked):
            with recordings(allowed), host.running(prior), played(prior, asked.device) as pair:
                watched = Watched(pair[1], asked.device)
                quick = ReplayedPrior(prior, watched)

                def whole(
                    count: int = steps, replay: Replay = watched, quick: Prior = quick
                ) -> None:
                    for _ in steps_of(quick, side, count, asked.device, replay):
                        pass

                whole(9)  # constants
                watched.spans.clear()
                seconds = seconds_of(whole, asked.device)
                share = {f"{kind} s": round(watched.seconds(kind), 4)
                         for kind in ("network", "update")}  # fmt: skip
            name_of_row = f"updates, {name}, {side}x{side}, {steps} steps, {way}"
            yield name_of_row, seconds, None, None, None, share


class Noted(Clock):
    """A clock that notes calls, to make them once more."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, noted."""

        def run(*given: Any) -> Any:
            self.calls.append((function, given))
            return function(*given)

        return run


def starts_part(asked: Asked) -> Iterator[Row]:
    """InvSR at SD-Turbo's size, 128 to 512: the node's seconds beside those of its calls alone."""
    dtype = torch.float32 if asked.device.type == "cpu" else torch.float16
    prior, predictor = sd_turbo_size(asked.channels, asked.device, dtype)
    side = 16 if asked.small else 128
    node = NODE_CLASS_MAPPINGS["UndegradeInversionSampler"]
    image = to_image(photos(EVALUATION[:1])[..., :side, :side])
    required = node.INPUT_TYPES()["required"]
    widgets = {n: known[1]["default"] for n, known in required.items() if "default" in known[1]}
    for steps in (1, 3, 5):
        clock = Noted()
        watched: Any = Timed(prior, clock, "denoise")
        watched.codec = Timed(prior.codec, clock, "encode", "decode")
        timed: Any = Timed(predictor, clock, "predict")

        def whole(a: Any = watched, b: Any = timed, count: int = steps) -> None:
            node().sample(a, b, image, **{**widgets, "steps": count})

        whole()
        clock.calls.clear()
        seconds = seconds_of(whole, asked.device)

        def bare(once: tuple = tuple(clock.calls)) -> None:
            for function, given in once:
                function(*given)

        alone = seconds_of(bare, asked.device)
        name = f"InvSR, {side} to {4 * side}, {steps} steps"
        yield name, seconds, None, None, None, {"networks alone s": round(alone, 4)}


def regions_part(asked: Asked) -> Iterator[Row]:
    """Calls of a UNet of Stable Diffusion's size, as a heap, a lockstep and equal steps ask it:
    the tiles' steps are drawn, a third of them flat, a third detailed."""
    dtype = torch.float32 if asked.device.type == "cpu" else torch.float16
    prior, _ = sd_turbo_size(asked.channels, asked.device, dtype)
    side, base = (16, 4) if asked.small else (64, 20)
    for tiles in (25,) if asked.small else (25, 81):
        skips = torch.randint(1, 6, (tiles,), generator=torch.Generator().manual_seed(1)).tolist()
        nodes = [list(range(k % skip, base, skip)) for k, skip in enumerate(skips)]
        uniform = [list(range(base))] * tiles
        orders = {"heap": heap_sizes(nodes, 8), "lockstep": lockstep_sizes(nodes, 8),
                  "equal steps": heap_sizes(uniform, 8)}  # fmt: skip
        orders["heap, at most 32 a call"] = heap_sizes(nodes, 32)
        for order, sizes in orders.items():
            for way, allowed in ways(asked):
                with recordings(allowed), played(prior, asked.device) as (quick, _replay):

                    def calls(sizes: list[int] = sizes, quick: Prior = quick) -> None:
                        for b in sizes:
                            x = torch.zeros(b, 4, side, side, device=asked.device)
                            quick.denoise(x, torch.ones(b, device=asked.device))

                    for b in {*sizes}:
                        for _ in range(3):
                            calls([b])
                    seconds = seconds_of(calls, asked.device)
                more = {"calls": len(sizes), "evaluations": sum(sizes)}
                yield f"regions, {tiles} tiles, {order}, {way}", seconds, None, None, None, more
