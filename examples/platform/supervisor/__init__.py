"""The supervisor: how many replicas run, which of them get requests, and when one is drained and stopped."""
