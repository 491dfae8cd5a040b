"""Every subject, stream and bucket name. All begin with the environment, so that permissions can follow it."""

from dataclasses import dataclass


def token(text: str) -> str:
    """One subject token from free text: anything NATS would read as structure becomes ``_``."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in text) or "_"


@dataclass(frozen=True, slots=True)
class Subjects:
    """Names within one environment. ``*`` may be passed where a subscriber wants every value of a token."""

    environment: str

    @property
    def prefix(self) -> str:
        return f"tidegate.{self.environment}"

    def run_desired(self, run: str) -> str:
        return f"{self.prefix}.run.{run}.desired"

    def run_state(self, run: str) -> str:
        return f"{self.prefix}.run.{run}.state"

    @property
    def kill(self) -> str:
        """The kill switch: whatever is said here closes the gates of every worker at once."""
        return f"{self.prefix}.kill"

    def timing(self, run: str, system: str) -> str:
        return f"{self.prefix}.timing.{run}.{system}"

    def window(self, run: str, system: str) -> str:
        return f"{self.prefix}.window.{run}.{system}"

    def resource(self, service: str) -> str:
        return f"{self.prefix}.resource.{service}"

    def span(self, system: str) -> str:
        return f"{self.prefix}.span.{system}"

    def breach(self, system: str, metric: str, series: str) -> str:
        return f"{self.prefix}.breach.{system}.{metric}.{series}"

    def silence(self, silence: str) -> str:
        return f"{self.prefix}.silence.{silence}"

    def acknowledge(self, breach: str) -> str:
        return f"{self.prefix}.acknowledge.{breach}"

    def scaling(self, service: str) -> str:
        return f"{self.prefix}.scaling.{service}"

    def order(self, service: str, subject: str) -> str:
        return f"{self.prefix}.order.{service}.{subject}"

    def dead(self, service: str) -> str:
        return f"{self.prefix}.dead.{service}"

    def stream(self, name: str) -> str:
        """Stream name of this environment, e.g. ``tidegate-local-TIMINGS``."""
        return f"tidegate-{self.environment}-{name}"

    def bucket(self, name: str) -> str:
        """Key-value bucket name of this environment, e.g. ``tidegate-local-leases``."""
        return f"tidegate-{self.environment}-{name}"
