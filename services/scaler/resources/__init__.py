"""What services use, and what could be made better of it."""
