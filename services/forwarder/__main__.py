"""``python -m services.forwarder``: one forwarder process."""

from services.forwarder.app import serve
from services.forwarder.settings import ForwarderSettings
from shared.service import run_service

if __name__ == "__main__":
    run_service("forwarder", ForwarderSettings, serve)
