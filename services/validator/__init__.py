"""Holds windows against benchmarks: verdicts, the life of breaches, scores and the report of a run."""
