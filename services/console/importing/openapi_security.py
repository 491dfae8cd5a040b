"""What an operation's security asks for as headers and query parameters that hold ``${secret.NAME}``."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from services.console.importing.naming import one_line
from services.console.importing.references import References
from services.console.importing.secrecy import Secrets
from shared.contracts.sendable import HEADER_NAME


@dataclass(slots=True)
class Credentials:
    """``query``: values by parameter. ``advice``: what has to be done by hand."""

    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    advice: list[str] = field(default_factory=list)


def read_credentials(
    document: dict[str, Any], references: References, operation: dict[str, Any], secrets: Secrets, place: str
) -> Credentials:
    """Of the first way in that an operation offers; of no way in, nothing."""
    offered = operation.get("security", document.get("security"))
    ways = [way for way in offered if isinstance(way, dict) and way] if isinstance(offered, list) else []
    credentials = Credentials()
    for scheme in ways[0] if ways else ():
        _add(credentials, str(scheme), _scheme(document, references, str(scheme)), secrets, place)
    return credentials


def _scheme(document: dict[str, Any], references: References, name: str) -> dict[str, Any]:
    if "swagger" in document:
        holder = document.get("securityDefinitions")
    else:
        holder = references.resolve(document.get("components")).get("securitySchemes")
    return references.resolve(holder.get(name)) if isinstance(holder, dict) else {}


def _add(credentials: Credentials, name: str, scheme: dict[str, Any], secrets: Secrets, place: str) -> None:
    kind, way = str(scheme.get("type")), str(scheme.get("scheme")).lower()

    def secret(said: str) -> str:
        return secrets.template("", name, f"{said}, first for {place}")

    if kind == "basic" or (kind == "http" and way == "basic"):
        credentials.headers["Authorization"] = f"Basic {secret('base64 of user:password')}"
    elif kind in ("oauth2", "openIdConnect") or (kind == "http" and way == "bearer"):
        credentials.headers["Authorization"] = f"Bearer {secret('a bearer token')}"
    elif kind == "apiKey" and isinstance(scheme.get("name"), str) and scheme.get("in") in ("header", "query", "cookie"):
        key = scheme["name"]
        if scheme["in"] == "query":
            credentials.query[key] = secret(f"the key in query {one_line(key, 40)}")
        elif scheme["in"] == "header" and HEADER_NAME.fullmatch(key):
            credentials.headers[key] = secret(f"the key in header {one_line(key, 40)}")
        elif scheme["in"] == "cookie":
            cookie = f"{quote(key)}={secret(f'the key in cookie {one_line(key, 40)}')}"
            before = credentials.headers.get("Cookie")
            credentials.headers["Cookie"] = f"{before}; {cookie}" if before else cookie
    else:
        credentials.advice.append(f"Security {one_line(name, 60)} is of a kind that has to be added by hand.")
