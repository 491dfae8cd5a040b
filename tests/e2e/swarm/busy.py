"""A service of the platform for the story on a Swarm: each request costs 10 ms of CPU. Standard library alone."""

import http.server
import os
import time

COST_S = 0.01


class Busy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        until = time.thread_time() + COST_S
        while self.path != "/health" and time.thread_time() < until:
            pass
        body = os.uname().nodename.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("", 8000), Busy).serve_forever()
