"""Where the replicas of a service run, as people write it under ``target:`` in ``config/scaling.yaml``."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from shared.contracts.base import Document


class LocalTarget(Document):
    """Local processes behind a supervisor's HTTP API; ``url`` is ``TIDEGATE_PLATFORM_URL`` unless given."""

    kind: Literal["local"]
    url: str | None = None


class WorkersTarget(Document):
    """The generator workers of an embedded stack; ``url`` of its keeper is ``TIDEGATE_WORKERS_URL`` unless given."""

    kind: Literal["workers"]
    url: str | None = None


class DockerTarget(Document):
    """Containers of one Docker Engine that carry the label ``tidegate.service``; ``url``: else ``DOCKER_HOST``."""

    kind: Literal["docker"]
    url: str | None = None
    name: str | None = None


class SwarmTarget(Document):
    """A service of a Docker Swarm, of which the engine at ``url`` (else ``DOCKER_HOST``) is a manager.

    ``name``: the service's there. ``stack``: it was deployed as part of one, so its name begins with the stack's.
    """

    kind: Literal["swarm"]
    url: str | None = None
    name: str | None = None
    stack: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "SwarmTarget":
        if self.name and self.stack:
            raise ValueError("name is the whole name; give it or stack, not both")
        return self

    def name_of(self, service: str) -> str:
        """What the Swarm calls the service."""
        return self.name or (f"{self.stack}_{service}" if self.stack else service)


class KubernetesTarget(Document):
    """A Deployment or StatefulSet; ``name`` is the service's unless given. ``context``: of the kubeconfig, else the
    cluster the scaler itself runs in."""

    kind: Literal["kubernetes"]
    context: str | None = None
    namespace: str = "default"
    workload: Literal["deployment", "statefulset"] = "deployment"
    name: str | None = None


ScalingTarget = Annotated[
    LocalTarget | WorkersTarget | DockerTarget | SwarmTarget | KubernetesTarget, Field(discriminator="kind")
]
