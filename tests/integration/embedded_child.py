"""A stand-in for any service of the stack: answers ``/health``, notes its end in order, and waits for SIGTERM.

``EMBEDDED_CHILD_FAILS=NAME`` makes the one whose log name that is end at once, as a broken service would.
"""

import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's signature
        pass


def main() -> None:
    kind = sys.argv[1]
    if kind == os.environ.get("EMBEDDED_CHILD_FAILS"):
        sys.exit(f"{kind}: broken on purpose")
    variable = "TIDEGATE_PLATFORM_PORT" if kind == "platform" else "TIDEGATE_HTTP_PORT"
    server = HTTPServer(("127.0.0.1", int(os.environ[variable])), Health)

    def stop(*_: object) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    server.serve_forever(poll_interval=0.02)
    with Path(os.environ["EMBEDDED_CHILD_ENDS"]).open("a") as file:
        file.write(f"{time.monotonic()} {kind}\n")


if __name__ == "__main__":
    main()
