"""What could never give an honest verdict, and what hardly can: found as benchmarks are read."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from shared.contracts.sources import (
    LONGEST_WINDOW_S,
    MIN_SAMPLES,
    Source,
    samples_to_confirm_share,
)
from shared.errors import WrongFieldError
from shared.histogram import MAX_BUCKET, bucket_of

if TYPE_CHECKING:
    from shared.contracts.benchmarks import Benchmark, Benchmarks

MOST_PER_S = 1e6
"""More requests a second than a run sends."""
MOST = 1e9
"""More than is measured of anything, in any unit."""


def refuse_unjudgeable(one: "Benchmark") -> None:
    """Raise ``WrongFieldError`` for limits that nothing lies beyond or within, and for windows that cannot be held."""
    for name, limit in (("target", one.target), ("critical", one.critical)):
        if limit > MOST:
            raise WrongFieldError(
                f"{one.metric}: {name} {limit:g} {one.unit} is beyond all that is measured; use at most {MOST:g}", name
            )
    if one.better == "higher":
        if one.critical == 0:
            raise WrongFieldError(
                f"{one.metric}: critical 0 is never broken, nothing is less; write a figure between 0 and target "
                f"{one.target:g}",
                "critical",
            )
    else:
        _refuse_lower(one)
    _refuse_window(one)
    _refuse_samples(one)


def refuse_unreachable(one: "Benchmark", asked_per_s: float, *at: str | int) -> None:
    """Raise where ``max_window`` cannot hold ``min_samples`` of the requests that its system is asked for a second."""
    most = math.floor(asked_per_s * one.max_window)
    if one.source not in (Source.RESPONSE_TIME, Source.ERROR_RATE) or not asked_per_s or one.min_samples <= most:
        return
    needed_s = math.ceil(one.min_samples / asked_per_s)
    longest = f"even the longest, {LONGEST_WINDOW_S} s, holds {math.floor(asked_per_s * LONGEST_WINDOW_S)}; use fewer"
    mended = f"use a max_window of at least {needed_s} s" if needed_s <= LONGEST_WINDOW_S else longest
    raise WrongFieldError(
        f"{one.metric}: {asked_per_s:g} requests/s, this system's throughput, never give min_samples "
        f"{one.min_samples} within max_window {one.max_window:g} s; {mended}",
        *(*at, "min_samples"),
    )


def why_untellable(limit_ms: float) -> str:
    """Why times cannot be told to lie within a limit or beyond it, as the end of a sentence; empty where they can."""
    if bucket_of(limit_ms * 1e3) == 0:
        return "is never kept: times are told apart from 1 us on; write more"
    if bucket_of(limit_ms * 1e3) >= MAX_BUCKET:
        return "is never broken: times are told apart up to an hour; write less than 3600000 ms"
    return ""


def find_doubts(benchmarks: "Benchmarks") -> Iterator[str]:
    """What is right and yet not met while a run goes on, a line each: more load, or the whole run, can meet it."""
    for system, owner in benchmarks.systems.items():
        for one in owner.benchmarks:
            if one.source is not Source.ERROR_RATE or not owner.asked_per_s:
                continue
            needed, most = samples_to_confirm_share(one.target), math.floor(owner.asked_per_s * one.max_window)
            if needed > most:
                yield (
                    f"{system} {one.metric}: to confirm target {one.target:g} takes {needed} requests without a "
                    f"failure; {owner.asked_per_s:g} requests/s, this system's throughput, give {most} within "
                    f"max_window {one.max_window:g} s, so below {math.ceil(needed / one.max_window)} requests/s only "
                    "a whole run can meet it, and a breach of it ends with the run"
                )


def _refuse_lower(one: "Benchmark") -> None:
    if one.target == 0:
        raise WrongFieldError(f"{one.metric}: target 0 {one.unit} is never met; write a figure above 0", "target")
    if one.unit == "ms" and one.source is not Source.RESOURCE:
        for name, limit in (("target", one.target), ("critical", one.critical)):
            if why := why_untellable(limit):
                raise WrongFieldError(f"{one.metric}: {name} {limit:g} ms {why}", name)
    if one.unit == "ratio" and one.source is Source.RESOURCE and one.critical > 1 and one.instances != "sum":
        name = "target" if one.target > 1 else "critical"
        raise WrongFieldError(
            f"{one.metric}: {name} {getattr(one, name):g} is more than all of it; {one.resource} goes up to 1, write "
            "e.g. 0.8 or 80 %",
            name,
        )


def _refuse_window(one: "Benchmark") -> None:
    if one.window < 1:
        raise WrongFieldError(f"{one.metric}: window of {one.window:g} s is shorter than the 1 s of a cell", "window")
    for name, seconds in (("window", one.window), ("max_window", one.max_window)):
        if seconds > LONGEST_WINDOW_S:
            raise WrongFieldError(
                f"{one.metric}: {name} of {seconds:g} s is longer than what is held of a run; use at most "
                f"{LONGEST_WINDOW_S} s",
                name,
            )
    if one.max_window < one.window:
        raise WrongFieldError(
            f"{one.metric}: max_window of {one.max_window:g} s is below window {one.window:g} s", "max_window"
        )


def _refuse_samples(one: "Benchmark") -> None:
    held = one.max_window * MOST_PER_S
    if one.source is Source.ERROR_RATE and (needed := samples_to_confirm_share(one.target)) > held:
        raise WrongFieldError(
            f"{one.metric}: target {one.target:g} is never met: to confirm it takes {needed:g} requests in one window, "
            "more than a run sends; write e.g. 0.001",
            "target",
        )
    seconds = round(one.max_window)
    if one.source is Source.RESOURCE and one.min_samples > seconds:
        raise WrongFieldError(
            f"{one.metric}: a resource is read once a second, so max_window {one.max_window:g} s never holds "
            f"min_samples {one.min_samples}; use at most {seconds}, or a longer max_window, up to {LONGEST_WINDOW_S} s",
            "min_samples",
        )
    if one.source is Source.SPAN and one.resource and seconds < MIN_SAMPLES[Source.RESOURCE]:
        raise WrongFieldError(
            f"{one.metric}: {one.resource}, for where no spans come, is read once a second; max_window "
            f"{one.max_window:g} s never holds enough, use at least {MIN_SAMPLES[Source.RESOURCE]} s",
            "max_window",
        )
    if one.source is not Source.THROUGHPUT and one.min_samples > held:
        raise WrongFieldError(
            f"{one.metric}: min_samples {one.min_samples} are more than a run sends within max_window "
            f"{one.max_window:g} s; use fewer",
            "min_samples",
        )
