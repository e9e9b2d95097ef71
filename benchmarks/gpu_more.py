"""Parts of `gpu.py`: several pictures at once, updates by task and level, and how weights lie."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from gpu_runs import Asked, Row, built_in, figures, measured, recordings, sampled, seconds_of, ways
from tasks import TITLES, operators

from undegrade.models.registry import networks_of
from undegrade.nodes.comfyui import host
from undegrade.nodes.comfyui.kept import KEPT
from undegrade.nodes.comfyui.recorded import played
from undegrade.pipelines.level import level_operator
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient
from undegrade.pipelines.updates.update import Surroundings


def many(asked: Asked, m: Measurement) -> Measurement:
    """The same of several pictures, which differ by their noise."""
    count = 2 if asked.small else 8
    y = m.y.repeat(count, 1, 1, 1)
    return m.at(m.operator, y + 0.01 * per_sample_noise([*range(count)])(y))


def together_part(asked: Asked) -> Iterator[Row]:
    """The built-in prior at the smallest size, several pictures in one run."""
    height, width = map(int, asked.sizes[0].split("x"))
    prior = built_in("float32")
    for task, title in TITLES.items():
        m = many(asked, measured(height, width, operators(1, height)[task]))
        with recordings(True):
            found = figures(asked, prior, m, asked.steps, tries=1)
        yield f"built-in, {title}, {len(m.y)} pictures of {asked.sizes[0]}", *found, None


def again_part(asked: Asked) -> Iterator[Row]:
    """The built-in prior at the smallest size, when its calls have to be recorded and when those of
    the run before are kept; and what these take."""
    height, width = map(int, asked.sizes[0].split("x"))
    prior = built_in("float32")
    m = measured(height, width, operators(1, height)["super_resolution"])
    with recordings(True):
        figures(asked, prior, m, asked.steps, tries=1)
        for title in ("first", "second"):
            seconds = []
            for _ in range(1 if asked.small else 3):
                if title == "first":
                    KEPT.throw_away()
                run = partial(sampled, prior, m, steps=asked.steps)
                seconds.append(seconds_of(run, asked.device))
            held = KEPT.recordings.held / 2**20 if asked.device.type == "cuda" else 0
            more = {"kept": len(KEPT.recordings.known), "pool MiB": held}
            name = f"built-in, super-resolution x4, {asked.sizes[0]}, {title} run"
            yield name, min(seconds), None, None, None, more
    KEPT.throw_away()


def levels_part(asked: Asked) -> Iterator[Row]:
    """One measurement update by task and level, of a picture and of silence beside it."""
    side, again = (64, 2) if asked.small else (256, 50)
    prior = built_in("float32")
    for task, title in TITLES.items():
        m = measured(side, side, operators(1, side)[task])
        m = m.at(m.operator, m.y.to(asked.device))
        for factor in (4, 2, 1):
            both = m.at(level_operator(m, (side, side), factor)).beside_silence
            x = torch.zeros(2, 3, side // factor, side // factor, device=asked.device)
            for way, allowed in ways(asked):
                with recordings(allowed), host.running(prior), played(prior, asked.device) as pair:
                    around = Surroundings(0.5, 0.4, per_sample_noise([0]), replay=pair[1])

                    def updates(
                        count: int = again, m: Measurement = both, x: torch.Tensor = x,
                        around: Surroundings = around,
                    ) -> None:  # fmt: skip
                        for _ in range(count):
                            ConjugateGradient()(x, 0.5, m, around)

                    updates(3)
                    seconds = seconds_of(updates, asked.device) / again
                name = f"an update, {title}, {side}x{side} reduced {factor} times, {way}"
                yield name, seconds, None, None, None, None


def peaks_part(asked: Asked) -> Iterator[Row]:
    """A call of the built-in prior with weights channel by channel, as it takes them on CUDA, and
    channels together: seconds and what it takes at its peak, libraries' own memory included."""
    prior, device = built_in("float32"), asked.device
    (network,) = networks_of(prior)
    with host.running(prior):
        for size in asked.sizes[: None if asked.small else 3]:
            x = torch.zeros(1, 3, *map(int, size.split("x")), device=device)
            for layout in (torch.contiguous_format, torch.channels_last):
                torch.nn.Module.to(network, memory_format=layout)

                def calls(x: torch.Tensor = x) -> None:
                    for _ in range(1 if asked.small else 10):
                        prior.denoise(x, torch.ones(1, device=device))

                calls()
                if device.type == "cuda":
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats()
                seconds = seconds_of(calls, device) / (1 if asked.small else 10)
                peak = None
                if device.type == "cuda":
                    peak = torch.cuda.max_memory_allocated() / 2**20
                name = str(layout).removeprefix("torch.")
                yield f"a call at {size}, {name}", seconds, None, peak, None, None
    host.place(networks_of(prior), device)
