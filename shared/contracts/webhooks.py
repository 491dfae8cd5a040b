"""Where breaches are forwarded to by HTTP: the document ``config/webhooks.yaml``."""

from collections.abc import Collection, Iterator
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, StringConstraints, model_validator

from shared.contracts.base import Document
from shared.contracts.units import Duration, TimeLimit
from shared.errors import closest


def _is_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"is no URL ({error})") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("is no http or https URL; write e.g. https://hooks.example.com/tidegate")
    if parts.fragment:
        raise ValueError("has a fragment, which is never sent")
    return value


EndpointName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]


class Filter(Document):
    """Which breaches an endpoint hears of; an empty list lets everything through.

    ``levels``: ``critical`` alone hears of an episode from its escalation on.
    """

    levels: tuple[Literal["target", "critical"], ...] = ()
    severities: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()


class Endpoint(Document):
    """One receiver. ``secret`` names the variable ``TIDEGATE_WEBHOOK_SECRET_<NAME>``; what it is never stands here.

    ``updates``: also send how a value goes on, every few seconds while an episode lasts. An attempt may take
    ``timeout``; attempts go on for ``retry_for``, then the event goes to DEAD.
    """

    name: EndpointName
    url: Annotated[str, AfterValidator(_is_url)]
    secret: SecretName
    when: Filter = Filter()
    updates: bool = False
    timeout: TimeLimit = 10.0
    retry_for: Duration = 3_600.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        # Not by the field's own validator, whose message would show them.
        if urlsplit(self.url).username is not None or urlsplit(self.url).password is not None:
            raise ValueError("url: carries credentials; a receiver knows us by the signature")
        return self

    @property
    def host(self) -> str:
        return (urlsplit(self.url).hostname or "").rstrip(".").lower()


def find_unknown(document: "Webhooks", systems: Collection[str], metrics: Collection[str]) -> Iterator[str]:
    """Systems and metrics that an endpoint waits for and no breach can be of: a line each."""
    for place, endpoint in enumerate(document.endpoints):
        for name, asked, known in (
            ("systems", endpoint.when.systems, systems),
            ("metrics", endpoint.when.metrics, metrics),
        ):
            for one in asked:
                if one not in known:
                    yield (
                        f"endpoints.{place}.when.{name}: no benchmark has {one!r}{closest(one, sorted(known))}, so "
                        f"{endpoint.name} never hears of it; there are {', '.join(sorted(known))}"
                    )


class Webhooks(Document):
    """All receivers; their names are unique."""

    endpoints: tuple[Endpoint, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [endpoint.name for endpoint in self.endpoints]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"endpoint {twice[0]!r} stands here twice; give each a name of its own")
        return self
