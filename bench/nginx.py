"""The target of throughput benches: one nginx worker that answers from memory and counts its requests."""

import shutil
import urllib.request
from pathlib import Path

from bench.harness import TARGET_CORE, pin, wait_until
from deploy.embedded.ports import LOOPBACK, choose_port
from deploy.embedded.process import Child, start_child

# What is asked for without a token, or with the wrong method, is an error: a tool that skips work shows.
CONFIG = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 16384; }}
http {{
  access_log off; default_type application/json; keepalive_requests 1000000000; keepalive_timeout 3600;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen {host}:{port} backlog=16384;
    location = /one {{ return 200 '{{"ok":true}}'; }}
    location = /sessions {{
      if ($request_method != POST) {{ return 405; }}
      return 200 '{{"access_token":"t-$request_id","expires_in":3600}}';
    }}
    location = /jobs {{
      if ($request_method != POST) {{ return 405; }}
      if ($http_authorization = "") {{ return 401; }}
      return 201 '{{"id":"$request_id","state":"new"}}';
    }}
    location ~ "^/jobs/([0-9a-f]{{32}})/runs$" {{
      if ($request_method != POST) {{ return 405; }}
      if ($http_authorization = "") {{ return 401; }}
      return 202 '{{"id":"$1","state":"queued"}}';
    }}
    location ~ "^/jobs/([0-9a-f]{{32}})$" {{
      if ($http_authorization = "") {{ return 401; }}
      return 200 '{{"id":"$1","state":"done","result":{{"score":0.93}}}}';
    }}
    location = /v1/traces {{ return 200 "{{}}"; }}
    location = /status {{ stub_status; }}
  }}
}}
"""


class Nginx:
    """``start`` and ``stop``; ``url`` is its address."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = choose_port("nginx", None)
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._child: Child | None = None
        self._asked = 0

    def start(self) -> None:
        binary = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
        if binary is None:
            raise SystemExit("this bench needs nginx: apt-get install nginx-light")
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "nginx.conf"
        config.write_text(CONFIG.format(folder=self._folder, host=LOOPBACK, port=self.port))
        self._child = start_child("nginx", [binary, "-p", self._folder, "-c", config], self._folder / "nginx.out")
        pin(self._child.pid, TARGET_CORE)
        wait_until(self._answers, "nginx answers", 10)

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()

    def requests(self) -> int:
        """Requests answered so far, these questions left out."""
        with urllib.request.urlopen(f"{self.url}/status", timeout=10) as answer:
            body = answer.read().decode()
        self._asked += 1
        return int(body.splitlines()[2].split()[2]) - self._asked

    def _answers(self) -> bool:
        try:
            return self.requests() >= 0
        except OSError:
            return False
