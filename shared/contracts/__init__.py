"""Contracts between the services; the compatibility rule stands in ``base``."""
