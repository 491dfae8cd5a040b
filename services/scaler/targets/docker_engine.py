"""Adapter of one Docker Engine: the containers that carry the label ``tidegate.service``, copied and taken away.

The engine has no compare-and-set, so two things take its place. Names: a replica is called by its slot, so that of two
scalers that fill the same one the second finds it done. Epochs: a volume named by the service and the epoch marks that
a leader was heard; it is looked for before every single step, and the marks of earlier ones are removed. What the
engine says of containers, and a copy of one, is ``containers``.
"""

import functools
import logging
import threading
import time
from typing import Any

from docker.errors import APIError, DockerException, NotFound
from requests.exceptions import RequestException

from services.scaler.situation import Observation, Sizes
from services.scaler.targets.containers import (
    Container,
    Replicas,
    copy_of,
    endpoints,
    grace_s,
    labels_of,
    leaving_name,
    name_of,
    observation,
    replicas_of,
    resizing,
    room,
    sizes_of,
    slot_name,
    unstarted,
)
from services.scaler.targets.engine import EngineConnection, post
from services.scaler.targets.engine_api import EPOCH, FENCE, SERVICE
from services.scaler.targets.target import FencedError, RefusedError
from shared.errors import TransientError

CONFLICT = 409
BEING_MADE, BEING_MADE_S = 30, 0.1
"""How often a container that another is making is asked for, and the pause between."""

logger = logging.getLogger(__name__)


class DockerTarget:
    """The services of one engine. ``name``: the label's value, whatever the rules call the service."""

    dry_run = False

    def __init__(self, engine: EngineConnection, name: str | None = None) -> None:
        self._engine = engine
        self._name = name
        self._ending: set[str] = set()

    async def observe(self, service: str) -> Observation:
        return observation(await self._replicas(service), time.time())

    async def room(self, service: str) -> int | None:
        replicas = await self._replicas(service)
        running = await self._engine.ask(_inspect_all)
        return room(replicas, running, await self._engine.ask(lambda client: client.info()))

    async def sizes(self, service: str) -> Sizes:
        return sizes_of((await self._replicas(service)).first)

    async def set_sizes(self, service: str, sizes: Sizes, epoch: int, decision: str) -> None:
        """All or none: what was resized is given back its sizes when another container cannot be."""
        label = self._name or service
        replicas = await self._replicas(service)
        bodies = {one["Id"]: resizing(one, sizes) for one in replicas.slots.values()}
        done: list[Container] = []
        await self._engine.ask(functools.partial(_fence, service=label, epoch=epoch))
        for one in replicas.slots.values():
            try:
                await self._update(label, one["Id"], bodies[one["Id"]], epoch)
            except RefusedError:
                for resized in done:
                    back = _given_back(resized, bodies[resized["Id"]])
                    await self._update(label, resized["Id"], back, epoch)
                raise
            done.append(one)

    async def _update(self, label: str, container_id: str, body: dict[str, Any], epoch: int) -> None:
        def update(client: Any) -> None:
            _fence(client, label, epoch)
            if body:
                post(client, f"/containers/{container_id}/update", body)

        await self._engine.ask(update, acting=True)

    async def set_replicas(self, service: str, replicas: int, epoch: int, decision: str) -> None:
        label = self._name or service
        if replicas < 1:
            raise RefusedError(f"{label}: {replicas} replicas are asked for; the least is 1")
        found = await self._replicas(service)
        await self._engine.ask(functools.partial(_fence, service=label, epoch=epoch))
        for container_id in found.leaving:
            await self._end(container_id)
        half_made = [slot for slot, one in found.slots.items() if unstarted(one)]
        for slot in [*half_made, *found.missing(replicas)]:
            start = functools.partial(
                _start, template=found.first, service=label, slot=slot, epoch=epoch, decision=decision
            )
            await self._engine.ask(start, acting=True)
        for one in found.beyond(replicas):
            rename = functools.partial(_rename, service=label, container=one, epoch=epoch)
            await self._engine.ask(rename, acting=True)
            await self._end(one["Id"], grace_s(one))

    async def _replicas(self, service: str) -> Replicas:
        label = self._name or service
        return replicas_of(label, await self._engine.ask(functools.partial(_inspect_all, service=label)))

    async def _end(self, container_id: str, grace: int | None = None) -> None:
        """Stop and remove it beside everything else: that may take as long as its grace. Nobody waits for the thread;
        one that a scaler leaves undone is done by the next that moves the service."""
        if container_id in self._ending:
            return
        self._ending.add(container_id)

        def end(client: Any) -> None:
            threading.Thread(target=self._stop_and_remove, args=(client, container_id, grace), daemon=True).start()

        await self._engine.ask(end)

    def _stop_and_remove(self, client: Any, container_id: str, grace: int | None) -> None:
        try:
            client.stop(container_id, timeout=grace)
            client.remove_container(container_id, v=True)
        except NotFound:
            pass
        except (DockerException, RequestException, OSError) as error:
            logger.warning("container %s is left to go: %s", container_id[:12], error)
        finally:
            self._ending.discard(container_id)


def _inspect_all(client: Any, service: str = "") -> list[Container]:
    """The containers of a service in every state; without one, all that run."""
    labels = {"label": f"{SERVICE}={service}"} if service else {}
    found = []
    for listed in client.containers(all=bool(service), filters=labels):
        try:
            found.append(client.inspect_container(listed["Id"]))
        except NotFound:
            continue  # it went away between the list and the question
    return found


def _fence(client: Any, service: str, epoch: int) -> None:
    """Mark that this epoch was heard. ``FencedError`` when a later one was."""
    marks = client.volumes(filters={"label": f"{FENCE}={service}"})["Volumes"] or []
    heard = {mark["Name"]: int(mark["Labels"].get(EPOCH, 0)) for mark in marks}
    latest = max(heard.values(), default=0)
    if latest > epoch:
        raise FencedError(f"{service}: epoch {epoch} is older than {latest}, which the engine keeps a mark of")
    if latest < epoch:
        labels = {FENCE: service, EPOCH: str(epoch)}
        client.create_volume(f"tidegate.{service}.epoch-{epoch}", labels=labels)
    for name, earlier in heard.items():
        if earlier < epoch:
            try:
                client.remove_volume(name)
            except NotFound:
                continue


def _start(client: Any, template: Container, service: str, slot: int, epoch: int, decision: str) -> None:
    """The container of a slot, running; whoever made it."""
    _fence(client, service, epoch)
    name = slot_name(service, slot)
    made = _made(client, name, copy_of(template, service, slot, _image_of(client, template), epoch, decision))
    if labels_of(made).get(SERVICE) != service:
        raise RefusedError(f"the name {name} is taken by a container that is no replica of {service}")
    for network, endpoint in endpoints(template).items():
        if network not in made["NetworkSettings"]["Networks"]:
            client.connect_container_to_network(
                made["Id"], network, aliases=endpoint["Aliases"], driver_opt=endpoint["DriverOpts"]
            )
    try:
        client.start(made["Id"])
    except APIError:
        client.remove_container(made["Id"], force=True, v=True)
        raise


def _made(client: Any, name: str, body: dict[str, Any]) -> Container:
    """The container of a name, made unless it is there. A name is taken before its container can be asked for."""
    for _ in range(BEING_MADE):
        try:
            client.create_container_from_config(body, name)
        except APIError as error:
            if error.status_code != CONFLICT:
                raise
        try:
            found: Container = client.inspect_container(name)
        except NotFound:
            time.sleep(BEING_MADE_S)
        else:
            return found
    raise TransientError(f"the name {name} is taken, and no container has it")


def _image_of(client: Any, template: Container) -> str:
    """The image's name, unless that has come to mean another one since."""
    name, image = str(template["Config"]["Image"]), str(template["Image"])
    try:
        return name if client.inspect_image(name)["Id"] == image else image
    except NotFound:
        return image


def _rename(client: Any, service: str, container: Container, epoch: int) -> None:
    """From here on it is no replica."""
    _fence(client, service, epoch)
    try:
        client.rename(container["Id"], leaving_name(service, container["Id"]))
    except NotFound:
        return
    logger.info("%s: %s is stopped and removed", service, name_of(container))


def _given_back(container: Container, body: dict[str, Any]) -> dict[str, Any]:
    """What an update changed, as it was."""
    return {name: container["HostConfig"].get(name) for name in body}
