"""The whole stack as one object: started in order, watched, restarted where something died, stopped in reverse.

Runs inside the keeper's main thread and blocks it; signals, the lock and the state file are the keeper's.
"""

import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from deploy.embedded.errors import StackError
from deploy.embedded.nats import NatsServer
from deploy.embedded.options import StackOptions
from deploy.embedded.plan import Plan, make_plan
from deploy.embedded.postgres import PostgresServer
from deploy.embedded.restarts import Restarts
from deploy.embedded.service import Service
from deploy.embedded.state import Secrets, ServiceInfo

READY_S = 60.0
# How long each may take to stop in order before it is killed; generators drain their spool, PostgreSQL checkpoints.
STOP_S = {"generator": 10.0, "forwarder": 4.0, "scaler": 6.0, "validator": 6.0, "platform": 8.0, "collector": 15.0}

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Member:
    """A running part of the stack, with what is needed to report it and to start it again."""

    name: str
    server: NatsServer | PostgresServer | Service
    url: str | None
    log: Path
    restarts: Restarts = field(default_factory=Restarts)
    leaving_since: float | None = None

    @property
    def kind(self) -> str:
        return self.server.spec.kind if isinstance(self.server, Service) else self.name

    def describe(self) -> ServiceInfo:
        pid = self.server.child.pid
        try:
            created_at = psutil.Process(pid).create_time()
        except psutil.Error:
            created_at = 0.0
        return ServiceInfo(pid, self.url, str(self.log), self.restarts.total, created_at)


class Stack:
    """``start``, then ``restart_dead`` now and then, then ``stop``. ``members`` are in order of start."""

    def __init__(self, options: StackOptions, data: Path, secrets: Secrets) -> None:
        """Takes the chosen ports or free ones; ``StackError`` naming the port that is in use."""
        self._options, self._data, self._secrets = options, data, secrets
        logs = data / "logs"
        self._nats = NatsServer(
            data / "nats", options.nats_port, user="tidegate", password=secrets.nats, log=logs / "nats.log"
        )
        self._postgres = PostgresServer(
            data / "postgres",
            options.postgres_port,
            password=secrets.postgres,
            durable=options.durable,
            log=logs / "postgres.log",
        )
        self.nats_url = self._nats.url
        self.store_dsn = self._postgres.dsn
        self.plan: Plan = make_plan(options, data, secrets, self.nats_url, self.store_dsn)
        self.members: list[Member] = []

    def start(self, on_progress: Callable[[str], None], is_cancelled: Callable[[], bool]) -> None:
        """Start everything, each wave when the one before is ready. On ``StackError``, ``stop`` what has started."""
        for name, server in (("nats", self._nats), ("postgres", self._postgres)):
            on_progress(name)
            self._begin(Member(name, server, None, server.log))
            _give_up_if(is_cancelled)
        for wave in self.plan.waves:
            services = [Service(spec) for spec in wave]
            for service in services:
                on_progress(service.spec.name)
                self._begin(Member(service.spec.name, service, service.spec.url, service.spec.log))
            for service in services:
                service.wait_ready(READY_S, is_cancelled)

    def restart_dead(self, now: float) -> bool:
        """Start again what has died and whose time has come; True when anything changed. ``now``: monotonic s."""
        changed = False
        for member in self.members:
            if member.leaving_since is not None:
                continue
            code = member.server.child.poll()
            if code is None:
                continue
            if member.restarts.due_at is None:
                member.restarts = member.restarts.died(now)
                logger.warning("%s ended with code %s; it is started again", member.name, code)
            elif member.restarts.is_due(now):
                changed = True
                try:
                    self._begin(member)
                except StackError as error:
                    member.restarts = member.restarts.died(now)
                    logger.error("%s", error)  # noqa: TRY400 - one line says it
                else:
                    member.restarts = member.restarts.restarted(now)
        return changed

    @property
    def workers(self) -> list[Member]:
        """The generator workers that are to stay, in order of start."""
        return [member for member in self.members if member.kind == "generator" and member.leaving_since is None]

    def keep_workers(self, count: int, now: float) -> bool:
        """Start those that lack and let go of the newest that are too many; true when anything changed.

        One that is let go drains and is not replaced when it ends; past its deadline it is killed.
        """
        changed = self._part_with_leaving(now)
        staying = self.workers
        for member in staying[count:]:
            logger.info("%s is not needed any more", member.name)
            member.leaving_since = now
            if isinstance(member.server, Service):
                member.server.ask_to_stop()
        for _ in range(count - len(staying)):
            taken = {member.name for member in self.members}
            number = next(n for n in itertools.count(1) if f"generator-w{n}" not in taken)
            spec = self.plan.worker(number)
            member = Member(spec.name, Service(spec), spec.url, spec.log)
            try:
                self._begin(member)
            except StackError:
                self.members.remove(member)
                raise
        return changed or count != len(staying)

    def _part_with_leaving(self, now: float) -> bool:
        gone = []
        for member in self.members:
            if member.leaving_since is None:
                continue
            if member.server.child.poll() is not None:
                gone.append(member)
            elif now - member.leaving_since > STOP_S["generator"]:
                member.server.child.kill()
        self.members = [member for member in self.members if member not in gone]
        return bool(gone)

    def stop(self) -> None:
        """Stop in reverse order; those of one kind together. Each has its deadline, then it is killed."""
        for kind, group in itertools.groupby(reversed(self.members), key=lambda member: member.kind):
            members = list(group)
            for member in members:
                logger.info("stopping %s", member.name)
                if isinstance(member.server, Service):
                    member.server.ask_to_stop()
            deadline = time.monotonic() + STOP_S.get(kind, 0.0)
            for member in members:
                if isinstance(member.server, Service):
                    member.server.finish(max(0.0, deadline - time.monotonic()))
                else:
                    member.server.stop()
        self.members.clear()

    def _begin(self, member: Member) -> None:
        if member not in self.members:
            self.members.append(member)  # before its start: what has half started is stopped as well
        member.server.start()
        logger.info("%s started as process %d", member.name, member.server.child.pid)


def _give_up_if(is_cancelled: Callable[[], bool]) -> None:
    if is_cancelled():
        raise StackError("stopped while starting")
