"""What the services have in common: contracts, codec, clock, histogram, telemetry, settings and the store.

No business rule lives here; code enters with its second user.
"""

__version__ = "0.1.0"
