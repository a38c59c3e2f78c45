"""Draft."""

from jupyter_server_webchat import heartbeat
from webchat_widget.runtime.pool import PoolSettings


def hasty() -> None:
    """Seconds that are shorter than in life, for the sake of the test."""
    heartbeat.PING_SECONDS, heartbeat.SILENCE_SECONDS = 0.5, 4.0
    assert PoolSettings.__init__.__kwdefaults__ is not None
    PoolSettings.__init__.__kwdefaults__["stall_seconds"] = 2.0

