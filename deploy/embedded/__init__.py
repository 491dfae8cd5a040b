"""The whole of Tidegate on one Linux machine without Docker: NATS, PostgreSQL, the services, the stand-in platform.

This is the door: options in, a running stack's addresses out. How it works is told in
docs/decisions/0004-embedded-stack.md.
"""

from deploy.embedded.control import read_stack, start_stack, stop_stack
from deploy.embedded.errors import StackError
from deploy.embedded.options import StackOptions, default_data
from deploy.embedded.state import PlatformInfo, ServiceInfo, StackInfo

__all__ = [
    "PlatformInfo",
    "ServiceInfo",
    "StackError",
    "StackInfo",
    "StackOptions",
    "default_data",
    "read_stack",
    "start_stack",
    "stop_stack",
]
