"""What runs the replicas: one interface (``target``) and one adapter file per outside system."""
