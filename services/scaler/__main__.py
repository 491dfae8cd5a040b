"""``python -m services.scaler``: one scaler process."""

from services.scaler.app import serve
from services.scaler.settings import ScalerSettings
from shared.service import run_service

if __name__ == "__main__":
    run_service("scaler", ScalerSettings, serve)
