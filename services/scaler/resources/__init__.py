"""What services use, whether they leak, how well they use it. Pure but for what applies a plan."""
