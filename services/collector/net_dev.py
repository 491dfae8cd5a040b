"""``/proc/PID/net/dev`` becomes network counters. Pure. Format: proc_net(5)."""

from dataclasses import dataclass

from shared.errors import BadMessageError


@dataclass(frozen=True, slots=True)
class Network:
    """Totals over all interfaces but the loopback since they were made."""

    received: float
    sent: float
    errors: float
    drops: float


def read_net_dev(text: str) -> Network | None:
    """None when there is no interface beside the loopback; ``BadMessageError`` for another kind of text."""
    rows = []
    try:
        for line in text.splitlines()[2:]:
            name, _, numbers = line.partition(":")
            if name.strip() != "lo":
                rows.append([int(number) for number in numbers.split()])
        if not rows:
            return None
        return Network(
            received=sum(row[0] for row in rows),
            sent=sum(row[8] for row in rows),
            errors=sum(row[2] + row[10] for row in rows),
            drops=sum(row[3] + row[11] for row in rows),
        )
    except (ValueError, IndexError) as error:
        raise BadMessageError(f"no network statistics of the kernel: {error}") from error
