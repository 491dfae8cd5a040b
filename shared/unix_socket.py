"""Whether anything listens on a Unix socket, asked before a library is, whose own words for it are long."""

import socket


def probe(url: str, timeout_s: float) -> None:
    """``OSError`` in plain words where nothing listens; other schemes than that of a socket pass.

    The Docker SDK says it at length, and leaves the socket of each failed try open.
    """
    scheme, _, path = url.partition("://")
    if scheme not in ("unix", "http+unix"):
        return
    with socket.socket(socket.AF_UNIX) as tried:
        tried.settimeout(timeout_s)
        try:
            tried.connect(path)
        except OSError as error:
            raise OSError(f"{path}: {error.strerror or error}") from error
