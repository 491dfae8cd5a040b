"""One module per command of ``tidegate``; imported when the command is called."""
