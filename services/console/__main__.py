"""``python -m services.console``: the ``tidegate`` command where the script is not installed."""

from services.console.cli import main

if __name__ == "__main__":
    main(prog_name="tidegate")
