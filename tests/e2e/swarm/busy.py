"""A service of the platform for the story on a Swarm: a replica serves one request at a time, in 40 ms.

It waits and does not work, so that how much a replica carries is the same on a busy machine. Standard library alone.
"""

import http.server
import os
import threading
import time

SERVICE_S = 0.04
ONE = threading.Lock()


class Busy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path != "/health":
            with ONE:
                time.sleep(SERVICE_S)
        body = os.uname().nodename.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("", 8000), Busy).serve_forever()
