"""When an incoming body is too late. Pure: the time is an argument."""

from __future__ import annotations

from modelplex.server.connection_limits import ConnectionLimits


class BodyPace:
    """A body is late where nothing came for `body_timeout`, or less than `min_body_rate` on
    average. `size` is what came since the last restart.
    """

    __slots__ = ("limits", "since", "size")

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.since = 0.0
        self.size = 0

    def restart(self, now: float) -> None:
        """A body begins, or goes on after a pause of the gateway's."""
        self.since, self.size = now, 0

    def deadline(self, now: float) -> float:
        limits = self.limits
        silent = now + limits.body_timeout
        if not limits.min_body_rate:
            return silent
        return min(silent, self.since + limits.body_timeout + self.size / limits.min_body_rate)
