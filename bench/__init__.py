"""Tidegate against its promises, measured: ``make bench`` or ``make bench BENCH=NAME``."""
