"""How long requests wait for a core, by the formula of queues with several servers. Pure.

Sakasegawa (1977), An approximation formula Lq = α·ρ^β/(1−ρ), Annals of the Institute of Statistical Mathematics 29:
Wq ≈ (ca² + cs²)/2 · ρ^(√(2(m+1))−1) / (m(1−ρ)) · S. It is exact for M/M/1;
for M/M/m it stays within 20 % of Erlang's C from half use on, and above it below, where waits are short.
"""

import math


def wait_ms(cores: float, busy_cores: float, requests_per_s: float, variation: float = 1.0) -> float | None:
    """Mean time a request of one replica waits for a core, in ms; None where it would grow without end.

    ``cores``: what the replica may use; ``busy_cores``: what it uses at ``requests_per_s``, which makes the CPU time of
    a request (utilisation law). ``variation``: mean of the squared coefficients of variation of arrivals and service,
    1 for Poisson arrivals and exponential times. Below one core the server is one that is slower in proportion.
    """
    if requests_per_s <= 0 or busy_cores <= 0 or busy_cores >= cores:
        return None
    servers, share = max(1.0, cores), busy_cores / cores
    service_s = busy_cores / requests_per_s / min(1.0, cores)
    crowd: float = share ** (math.sqrt(2 * (servers + 1)) - 1)
    return 1000 * variation * crowd / (servers * (1 - share)) * service_s
