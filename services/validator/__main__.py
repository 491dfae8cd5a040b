"""The validator as a process: ``python -m services.validator``."""

from services.validator.app import serve
from services.validator.settings import Settings
from shared.service import run_service

if __name__ == "__main__":
    run_service("validator", Settings, serve)
