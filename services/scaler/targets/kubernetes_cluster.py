"""The way to a cluster: whose credentials are used, and a mistake in them as one line."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import yaml
from lightkube import AsyncClient, KubeConfig
from lightkube.core.exceptions import ConfigError as CredentialsError
from msgspec import MsgspecError

from shared.errors import ConfigError

KNOWN_EXEC = ("client.authentication.k8s.io/v1beta1", "client.authentication.k8s.io/v1alpha1")


@asynccontextmanager
async def open_cluster(context: str | None, timeout_s: float) -> AsyncIterator[AsyncClient]:
    """A client with the credentials of a kubeconfig's context, or of the pod that this process runs in."""
    where = "not in a cluster; name a context of the kubeconfig" if context is None else f"context {context!r}"
    try:
        config = (KubeConfig.from_service_account() if context is None else _kubeconfig()).get(context)
        user = config and config.user
        if user and user.exec and user.exec.apiVersion not in KNOWN_EXEC:
            raise ConfigError(f"{where}: no credentials by {user.exec.apiVersion}; would be {KNOWN_EXEC[0]}")
        client = AsyncClient(config, timeout=httpx2.Timeout(timeout_s), field_manager="tidegate", lazy=False)
    except (CredentialsError, MsgspecError, yaml.YAMLError, KeyError, TypeError, ValueError, OSError) as error:
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from error
    try:
        yield client
    finally:
        await client.close()


def _kubeconfig() -> KubeConfig:
    return KubeConfig.from_file(Path(os.environ.get("KUBECONFIG") or "~/.kube/config").expanduser())
