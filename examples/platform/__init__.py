"""The stand-in platform: AutoMatrix, RelayCore and NeuroWeaver as real services with real, bounded capacity.

It stands for somebody else's systems, so it imports nothing of Tidegate. `replica/` is one process of one
system; `supervisor/` starts and stops replicas behind a front door per system.
"""
