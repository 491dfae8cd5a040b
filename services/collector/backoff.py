"""How long to wait before trying again: doubling, capped, with jitter so that collectors do not come back together."""

FIRST_S = 0.1
CAP_S = 5.0


def delay_s(attempt: int, chance: float) -> float:
    """Seconds before the next try after ``attempt`` failures (from 1); ``chance`` in [0, 1) picks within the half."""
    full = min(CAP_S, FIRST_S * 2.0 ** min(attempt - 1, 16))
    return full * (0.5 + chance / 2)
