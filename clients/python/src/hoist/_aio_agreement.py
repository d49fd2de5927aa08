"""The calls about agreement of the client for asyncio."""

from __future__ import annotations

from hoist import _plans_agreement
from hoist._agreement import SyncDiagnosis, SyncReport, SyncReset
from hoist._aio_calls import AsyncCalls
from hoist._enums import SyncPace
from hoist._plans_models import Name
from hoist._quantities import Time


class AsyncAgreementCalls(AsyncCalls):
    """What a client inherits."""

    async def sync_health(self, name: Name | None = None, window: Time | None = None) -> SyncReport:
        """See `hoist.Client.sync_health`."""
        return await self._run(_plans_agreement.health(name, window))

    async def diagnose_sync(self, name: Name | None = None) -> SyncDiagnosis:
        """See `hoist.Client.diagnose_sync`."""
        return await self._run(_plans_agreement.diagnose(name))

    async def reset_sync(self, name: Name | None = None, validate_for: Time | None = None) -> SyncReset:
        """See `hoist.Client.reset_sync`."""
        return await self._run(_plans_agreement.reset(name, validate_for))

    async def configure_sync(
        self, pace: SyncPace | str | None, name: Name | None = None, *, request_id: str | None = None
    ) -> SyncPace:
        """See `hoist.Client.configure_sync`."""
        return await self._run(_plans_agreement.configure(pace, name, request_id))
