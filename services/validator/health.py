"""The generator's own state over a run, as its frames tell: evidence when it was at fault."""

from dataclasses import asdict, dataclass

from shared.contracts.window import FrameWindows


@dataclass(slots=True)
class GeneratorHealth:
    """Over the whole run against one system: seconds heard and spoiled, and the worst of each measure."""

    frames: int = 0
    redelivered_frames: int = 0
    frames_given_up: int = 0
    seconds: int = 0
    seconds_at_fault: int = 0
    loop_lag_us: int = 0
    schedule_error_us: int = 0
    cpu_permille: int = 0
    backlog_events: int = 0
    spooled_events: int = 0

    def note(self, frame: FrameWindows) -> None:
        self.frames += 1
        self.loop_lag_us = max(self.loop_lag_us, frame.loop_lag_us)
        self.schedule_error_us = max(self.schedule_error_us, frame.schedule_error_us)
        self.cpu_permille = max(self.cpu_permille, frame.cpu_permille)
        self.backlog_events = max(self.backlog_events, frame.backlog_events)
        self.spooled_events = max(self.spooled_events, frame.spooled_events)

    def with_seconds(self, seconds: int, at_fault: int) -> "GeneratorHealth":
        """A copy that counts more seconds."""
        whole = GeneratorHealth(**asdict(self))
        whole.seconds += seconds
        whole.seconds_at_fault += at_fault
        return whole
