"""Forwards breaches to HTTP endpoints: signed, in the order of each episode, until they are taken."""
