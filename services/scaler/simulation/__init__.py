"""A service of replicas in a queue, simulated, and the policies that may size it; ``docs/scaling-replay.md`` is its model."""
