"""A simulated service, and the policies that may size it; ``docs/scaling-replay.md`` writes the model down."""
