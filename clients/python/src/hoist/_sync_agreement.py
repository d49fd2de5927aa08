"""The calls about agreement of the client that blocks."""

from __future__ import annotations

from hoist import _plans_agreement
from hoist._agreement import SyncDiagnosis, SyncReport, SyncReset
from hoist._enums import SyncPace
from hoist._plans_models import Name
from hoist._quantities import Time
from hoist._sync_calls import Calls


class AgreementCalls(Calls):
    """What a client inherits. `name` is a device, `cpu:0`, or a model; without one it is everything."""

    def sync_health(self, name: Name | None = None, window: Time | None = None) -> SyncReport:
        """How well what shall be on devices and what is there have agreed, over the last `window`: 5 minutes.

        They agree as long as neither is behind the other for longer than the pace of `configure_sync` allows.
        """
        return self._run(_plans_agreement.health(name, window))

    def diagnose_sync(self, name: Name | None = None) -> SyncDiagnosis:
        """What does not agree now and what to do; how fast workers answer; and what has lately disagreed."""
        return self._run(_plans_agreement.diagnose(name))

    def reset_sync(self, name: Name | None = None, validate_for: Time | None = None) -> SyncReset:
        """Has workers tell everything that they have, and tries at once what was put off. Unloads nothing.

        With `validate_for` it answers when both sides agree again, or after that long, at most 60 s.
        """
        return self._run(_plans_agreement.reset(name, validate_for))

    def configure_sync(
        self, pace: SyncPace | str | None, name: Name | None = None, *, request_id: str | None = None
    ) -> SyncPace:
        """Says how long both sides may differ until that counts: for HIGH 0.5 s, 2, 10, and for IDLE 60.

        Of `name`, or of all that has no pace of its own. None, with a name: as everything else. Outlasts
        restarts of the server; returns what holds from here on.
        """
        return self._run(_plans_agreement.configure(pace, name, request_id))
