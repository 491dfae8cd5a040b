"""Which loopback port a server of the stack listens on, and the one line that says a chosen one is taken."""

import errno
import random
import socket

from deploy.embedded.errors import StackError

LOOPBACK = "127.0.0.1"
# Below the range Linux takes for outgoing connections: a server restarted on its port must not find
# that one of the load generator's own connections has borrowed it meanwhile.
FREE_RANGE = (20_000, 32_000)

_given: set[int] = set()
_random = random.SystemRandom()


def choose_port(setting: str, wanted: int | None = None) -> int:
    """``wanted`` if it can be bound, else a free one never given before by this process.

    Raises ``StackError`` naming ``setting`` and the port when ``wanted`` cannot be had.
    """
    if wanted is None:
        return _choose_free_port()
    if not 1 <= wanted <= 65535:
        raise StackError(f"{setting}: {wanted} is not a port; give a number from 1 to 65535")
    try:
        _try_bind(wanted)
    except OSError as error:
        raise StackError(describe_refusal(setting, wanted, error)) from error
    return wanted


def describe_refusal(setting: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{setting}: port {port} is in use on {LOOPBACK}; choose another, or leave it out to get a free one"
    if error.errno == errno.EACCES:
        return f"{setting}: no permission to listen on port {port}; choose one from 1024 up"
    return f"{setting}: cannot listen on {LOOPBACK}:{port}: {error.strerror}"


def _choose_free_port() -> int:
    for _ in range(200):
        port = _random.randint(*FREE_RANGE)
        if port in _given:
            continue
        try:
            _try_bind(port)
        except OSError:
            continue
        _given.add(port)
        return port
    raise StackError(f"no free port between {FREE_RANGE[0]} and {FREE_RANGE[1]} on {LOOPBACK}")


def _try_bind(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: connections of a former run in TIME_WAIT do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((LOOPBACK, port))
