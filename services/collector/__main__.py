"""``python -m services.collector``: the collector as a process."""

from services.collector.app import serve
from services.collector.settings import CollectorSettings
from shared.service import run_service

if __name__ == "__main__":
    run_service("collector", CollectorSettings, serve)
