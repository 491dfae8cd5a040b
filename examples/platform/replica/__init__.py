"""One replica of one of the three systems: its surface, its capacity, its metrics and its spans.

Imports are kept light here (no pydantic), since a replica must be ready soon after it is asked for.
"""
