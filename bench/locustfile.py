"""The four-step workflow and the single GET for Locust; ``SHAPE`` and ``RATE`` come from the environment.

Runs in the peers' own environment, not in the project's.
"""

import os
from typing import Any

from locust import FastHttpUser, constant_throughput, task

RATE, USERS = float(os.environ.get("RATE", "0")), int(os.environ.get("USERS", "50"))


class Visitor(FastHttpUser):  # type: ignore[misc]
    if RATE:
        wait_time = constant_throughput(RATE / USERS)

    def on_start(self) -> None:
        self.number = 0
        if os.environ["SHAPE"] == "workflow":
            answer = self.client.post("/sessions", json={"username": "user", "password": "right"}, name="sessions")
            self.headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}

    @task  # type: ignore[untyped-decorator]
    def visit(self) -> None:
        if os.environ["SHAPE"] == "one":
            self.ask("GET", "/one", "one", 200)
            return
        self.number += 1
        job = {"model": "small", "input": f"text of {self.number}"}
        job_id = self.ask("POST", "/jobs", "create", 201, json=job)["id"]
        self.ask("POST", f"/jobs/{job_id}/runs", "run", 202, json={"priority": "high"})
        self.ask("GET", f"/jobs/{job_id}", "show", 200, state="done")

    def ask(self, method: str, path: str, name: str, status: int, state: str | None = None, **more: Any) -> Any:
        headers = getattr(self, "headers", None)
        with self.client.request(method, path, name=name, headers=headers, catch_response=True, **more) as answer:
            document = answer.json()
            if answer.status_code != status or (state is not None and document["state"] != state):
                answer.failure("not as expected")
            return document
