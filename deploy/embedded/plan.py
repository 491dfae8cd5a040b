"""Which services a stack has, in which order, and what each is told through its environment.

Ports and passwords are given; nothing is started here.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.options import StackOptions
from deploy.embedded.ports import LOOPBACK, choose_port
from deploy.embedded.service import ServiceSpec
from deploy.embedded.state import PlatformInfo, Secrets
from shared.config import load_document
from shared.contracts.webhooks import Webhooks

SYSTEMS = ("autmatrix", "relaycore", "neuroweaver")
# What the environment of `tidegate up` may hold for one kind of child only.
PRIVATE_PREFIXES = {
    "generator": "TIDEGATE_SECRET_",
    "platform": "TIDEGATE_PLATFORM_",
    "forwarder": "TIDEGATE_WEBHOOK_",
}


@dataclass(frozen=True)
class Plan:
    """``waves``: services that start together, each wave after the one before is ready; they stop in reverse.

    ``worker``: the generator worker of a number, from 1, on a free port. ``workers_url``: where the keeper lets their
    number be changed.
    """

    waves: tuple[tuple[ServiceSpec, ...], ...]
    otlp_endpoint: str
    platform: PlatformInfo | None
    worker: Callable[[int], ServiceSpec]
    workers_url: str


def make_plan(options: StackOptions, data: Path, secrets: Secrets, nats_url: str, store_dsn: str) -> Plan:
    """Lay out the stack on free ports. ``data`` is absolute."""
    urls = {name: _local_url(choose_port(name)) for name in ("collector", "validator", "scaler")}
    platform = _plan_platform() if options.platform else None
    workers_url = _local_url(choose_port("workers"))
    common = {
        "TIDEGATE_ENVIRONMENT": options.environment,
        "TIDEGATE_NATS_URL": nats_url,
        "TIDEGATE_STORE_DSN": store_dsn,
        "TIDEGATE_HTTP_HOST": LOOPBACK,
        "TIDEGATE_CONFIG_DIR": str(options.config_dir.resolve()),
        "TIDEGATE_OTLP_ENDPOINT": urls["collector"],
        "TIDEGATE_ALLOWED_HOSTS": os.environ.get("TIDEGATE_ALLOWED_HOSTS", "127.0.0.1,localhost,::1"),
        **({"TIDEGATE_PLATFORM_URL": platform.supervisor_url} if platform else {}),
    }

    def spec(name: str, kind: str, url: str, extra: Mapping[str, str], *arguments: str) -> ServiceSpec:
        env = {**_inherited(kind), **extra, **options.env}
        command = (*options.commands[kind], *arguments)
        return ServiceSpec(name, kind, command, env, url, data / "logs" / f"{name}.log")

    def service(name: str, url: str, **more: str) -> ServiceSpec:
        return spec(name, name, url, {**common, "TIDEGATE_HTTP_PORT": url.rpartition(":")[2], **more})

    def worker(number: int) -> ServiceSpec:
        port = choose_port("generator")
        own = {
            "TIDEGATE_HTTP_PORT": str(port),
            "TIDEGATE_WORKER_ID": f"w{number}",
            "TIDEGATE_SPOOL_DIR": str(data / "spool"),
            "TIDEGATE_SECRET_PLATFORM_PASSWORD": secrets.platform,
        }
        return spec(f"generator-w{number}", "generator", _local_url(port), {**common, **own})

    waves: list[tuple[ServiceSpec, ...]] = [(service("collector", urls["collector"]),)]
    if platform:
        told = _platform_environment(platform, data, secrets, urls["collector"])
        replicas = [f"--replicas={name}={count}" for name, count in options.platform_replicas.items()]
        waves.append((spec("platform", "platform", platform.supervisor_url, told, *replicas),))
    forwarder = [service("forwarder", _local_url(choose_port("forwarder")))] if _forwards(options.config_dir) else []
    scaler = service("scaler", urls["scaler"], TIDEGATE_WORKERS_URL=workers_url)
    waves.append((service("validator", urls["validator"]), scaler, *forwarder))
    waves.append(tuple(worker(number) for number in range(1, options.workers + 1)))
    return Plan(tuple(wave for wave in waves if wave), urls["collector"], platform, worker, workers_url)


def _plan_platform() -> PlatformInfo:
    targets = {system: _local_url(choose_port(system)) for system in SYSTEMS}
    return PlatformInfo(_local_url(choose_port("platform")), targets)


def _platform_environment(platform: PlatformInfo, data: Path, secrets: Secrets, otlp: str) -> dict[str, str]:
    return {
        "TIDEGATE_PLATFORM_PORT": platform.supervisor_url.rpartition(":")[2],
        **{
            f"TIDEGATE_PLATFORM_{system.upper()}_PORT": url.rpartition(":")[2]
            for system, url in platform.targets.items()
        },
        "TIDEGATE_PLATFORM_PASSWORD": secrets.platform,
        "TIDEGATE_PLATFORM_SECRET": secrets.platform_signing,
        "TIDEGATE_PLATFORM_DATA": str(data / "platform"),
        "TIDEGATE_OTLP_ENDPOINT": otlp,
    }


def _forwards(config_dir: Path) -> bool:
    """Whether breaches are to be sent anywhere."""
    path = config_dir / "webhooks.yaml"
    return path.exists() and bool(load_document(Webhooks, path).endpoints)


def _inherited(kind: str) -> dict[str, str]:
    """This process's environment without what is meant for another kind of child."""
    others = tuple(prefix for owner, prefix in PRIVATE_PREFIXES.items() if owner != kind)
    return {key: value for key, value in os.environ.items() if not key.startswith(others)}


def _local_url(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"
