"""When a subject's drift is an alarm, and when it is part of one already raised."""

import msgspec

from monitoring.alarm import Detector
from monitoring.window import WINDOW

PSI_ALARM, _PSI_CALM = 0.25, 0.10
# Over a million decisions ADWIN proves shifts that mean nothing, as of the hour of the day.
SHIFT_ALARM = 0.02


class Episode(msgspec.Struct):
    """What a subject has already raised; counts are in decisions since the monitor began."""

    quiet_until: int = 0
    psi: bool = False
    missing_share: bool = False
    last_alarm_us: int | None = None

    def alarm(
        self, psi: float, shift: float, missing_excess: float, *, seen: int, now_us: int
    ) -> Detector | None:
        """
        Say which detector raises an alarm now, the one that says most if several could.

        `shift` is ADWIN's, 0.0 without one; `missing_excess` is how far the missing share is from
        the reference's, in tolerances. After an alarm the subject is quiet until what raised it
        has left the window; PSI and missing share must also have calmed down.
        """
        found: Detector | None = None
        if psi >= PSI_ALARM and not self.psi:
            found, self.psi = "psi", True
        elif psi < _PSI_CALM:
            self.psi = False
        if abs(shift) >= SHIFT_ALARM:
            found = "adwin"
        if missing_excess >= 1 and not self.missing_share:
            found, self.missing_share = "missing_share", True
        elif missing_excess < 1 / 2:
            self.missing_share = False
        if found is None or seen < self.quiet_until:
            return None
        self.quiet_until = seen + WINDOW
        self.last_alarm_us = now_us
        return found
