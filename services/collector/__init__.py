"""Puts what is measured into the store, once in effect, and announces it: frames, spans, samples, the control plane."""
