"""Requests offered to each service by second, over the last quarter of an hour, made of its replicas' samples. Pure.

A sample delivered again changes nothing: it is kept under its instance and second. A replica that is silent for a
moment counts as it was. Before a second in which none was heard nothing is known.
"""

from dataclasses import dataclass

import numpy as np

from services.scaler.demand import REMEMBERED_S, demand
from services.scaler.situation import Demand
from shared.contracts.resource import ResourceSample
from shared.contracts.scaling_rules import Sizing

SILENT_S = 3
"""For so long a replica that says nothing counts as it was."""


PLAUSIBLE = 1e12
"""A value that is no number, below 0 or above this is taken for none."""


@dataclass(frozen=True, slots=True)
class _Sample:
    ready: bool
    answered: float
    inside: float
    waiting: float
    work_s: float | None


@dataclass(frozen=True, slots=True)
class _Total:
    """Over all replicas within one second, of which ``ready`` took requests. ``grown``: what has come inside since the
    second before; of a replica that comes back from silence nobody knows. ``work_s``: seconds that servers worked; None
    where one did not tell."""

    replicas: int
    ready: int
    answered: float
    grown: float
    waiting: float
    work_s: float | None


NOTHING = _Total(replicas=0, ready=0, answered=0.0, grown=0.0, waiting=0.0, work_s=None)


class Offered:
    """The seconds of every service."""

    def __init__(self) -> None:
        self._samples: dict[str, dict[int, dict[str, _Sample]]] = {}
        self._totals: dict[str, dict[int, _Total]] = {}

    def add(self, sample: ResourceSample) -> None:
        """Take one sample, in any order; one that tells no request rate is no help."""
        values = {name: value for name, value in sample.values.items() if 0 <= value <= PLAUSIBLE}
        if "request_rate" not in values:
            return
        answered, busy = values["request_rate"], values.get("servers_busy")
        waiting = values.get("queue_length", 0.0)
        told_ms = values.get("service_time")
        work_s = busy if told_ms is None else answered * told_ms / 1000
        inside = max(values.get("requests_in_flight", 0.0), waiting)
        second = int(sample.at.timestamp())
        seconds = self._samples.setdefault(sample.service, {})
        seconds.setdefault(second, {})[sample.instance] = _Sample(sample.ready, answered, inside, waiting, work_s)
        totals = self._totals.setdefault(sample.service, {})
        for later in range(second, second + SILENT_S + 2):
            totals.pop(later, None)
        if len(seconds) > 2 * REMEMBERED_S:
            horizon = max(seconds) - REMEMBERED_S
            self._samples[sample.service] = {at: heard for at, heard in seconds.items() if at >= horizon}
            self._totals[sample.service] = {at: total for at, total in totals.items() if at >= horizon}

    def demand(self, service: str, now_s: float, sizing: Sizing, ready: int) -> Demand | None:
        """What was offered up to the last whole second; None where rates or service times are not known.

        ``ready``: how many replicas there should be; those that were not heard are ``missing``.
        """
        totals = self._until(service, int(now_s) - 1)
        if len(totals) < 2:
            return None
        service_s = _service_s(totals[-round(sizing.panic.stable) :])
        if service_s is None:
            return None
        answered = np.array([total.answered for total in totals[1:]])
        grown = np.array([total.grown for total in totals[1:]]) if sizing.counts == "answered" else 0.0
        made = demand(np.maximum(answered + grown, 0.0), totals[-1].waiting, service_s, sizing)
        return made and made.model_copy(update={"missing": max(0, ready - totals[-1].ready)})

    def _until(self, service: str, last: int) -> list[_Total]:
        """The seconds without a gap that end at ``last``, oldest first."""
        totals: list[_Total] = []
        for second in range(last, last - REMEMBERED_S - 1, -1):
            total = self._total(service, second)
            if total.replicas == 0:
                break
            totals.append(total)
        return totals[::-1]

    def _total(self, service: str, second: int) -> _Total:
        known = self._totals.setdefault(service, {})
        if second not in known:
            heard = self._heard(service, second)
            if not heard:
                return NOTHING
            told = [one.work_s for one in heard.values() if one.work_s is not None]
            known[second] = _Total(
                replicas=len(heard),
                ready=sum(one.ready for one in heard.values()),
                answered=sum(one.answered for one in heard.values()),
                grown=self._grown(service, second, heard),
                waiting=sum(one.waiting for one in heard.values()),
                work_s=sum(told) if len(told) == len(heard) else None,
            )
        return known[second]

    def _heard(self, service: str, second: int) -> dict[str, _Sample]:
        """By instance, what each told last, where that is not too long ago."""
        seconds = self._samples.get(service, {})
        heard: dict[str, _Sample] = {}
        for before in range(second - SILENT_S, second + 1):
            heard |= seconds.get(before, {})
        return heard

    def _grown(self, service: str, second: int, heard: dict[str, _Sample]) -> float:
        before = self._heard(service, second - 1)
        grown = sum(one.inside - before[name].inside for name, one in heard.items() if name in before)
        come = heard.keys() - before.keys()
        if not come:
            return grown
        known = {name for at, told in self._samples[service].items() if at < second for name in told}
        return grown + sum(heard[name].inside for name in come - known)


def _service_s(totals: list[_Total]) -> float | None:
    """Little's law: the time a server works on a request = servers at work / requests answered a second."""
    told = [total for total in totals if total.work_s is not None]
    answered, work_s = sum(total.answered for total in told), sum(total.work_s or 0.0 for total in told)
    return work_s / answered if answered > 0 and work_s > 0 else None
