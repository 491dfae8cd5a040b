"""The generator: workers that make load, time it and publish every timing; one of them coordinates each run."""
