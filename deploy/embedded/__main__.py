"""``python -m deploy.embedded --data DIR --status-fd N``: the keeper; its options come as JSON on standard input."""

import argparse
import os
import sys

from deploy.embedded.keeper import keep_stack
from deploy.embedded.options import StackOptions
from shared.telemetry import configure_logging


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.embedded", description=__doc__)
    parser.add_argument("--data", required=True, help="shown for whoever lists processes; the options name it too")
    parser.add_argument("--status-fd", required=True, type=int)
    arguments = parser.parse_args()
    configure_logging("keeper")
    options = StackOptions.from_json(sys.stdin.read())
    os.set_inheritable(arguments.status_fd, False)
    with os.fdopen(arguments.status_fd, "w") as status:
        return keep_stack(options, status)


if __name__ == "__main__":
    sys.exit(main())
