"""``python -m services.generator``: one worker process."""

from services.generator.app import serve
from services.generator.settings import GeneratorSettings
from shared.service import run_service

if __name__ == "__main__":
    run_service("generator", GeneratorSettings, serve)
