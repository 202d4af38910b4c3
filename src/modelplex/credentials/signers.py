"""What authenticates a request with a credential that expires: the Signer of an upstream."""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import TypeVar

from modelplex.core.errors import UpstreamAuth
from modelplex.credentials.aws_sts import amz_date
from modelplex.credentials.source import CredentialError, Refreshed
from modelplex.providers.signing import UpstreamRequest
from modelplex.providers.sigv4 import AwsKeys, sign

T = TypeVar("T")


class ExpiringKey:
    """A header line with a key or a token, which `line` writes."""

    def __init__(self, provider: str, source: Refreshed[str], line: Callable[[str], bytes]) -> None:
        self._provider = provider
        self._source = source
        self._line = line

    def __repr__(self) -> str:
        return f"<ExpiringKey of {self._provider}>"

    async def sign(self, request: UpstreamRequest, /) -> bytes:
        del request
        value = await _value(self._provider, self._source)
        try:
            return self._line(value)
        except ValueError as error:
            raise UpstreamAuth(f"{self._provider} was not asked: {error}") from None

    async def renew(self, signature: bytes, /) -> bool:
        value = self._source.now()
        if value is not None and self._line(value) != signature:
            return True  # another request has renewed it
        return value is None or await self._source.renewed(value) is not None

    @property
    def secrets(self) -> tuple[str, ...]:
        return self._source.values


class AwsSigner:
    """AWS Signature Version 4 over the body."""

    def __init__(
        self,
        provider: str,
        source: Refreshed[AwsKeys],
        *,
        region: str,
        service: str,
        clock: Callable[[], float] = time,
    ) -> None:
        self._provider = provider
        self._source = source
        self._region = region
        self._service = service
        self._clock = clock

    def __repr__(self) -> str:
        return f"<AwsSigner of {self._provider}>"

    async def sign(self, request: UpstreamRequest, /) -> bytes:
        keys = await _value(self._provider, self._source)
        now = amz_date(self._clock())
        return sign(request, keys, region=self._region, service=self._service, now=now)

    async def renew(self, signature: bytes, /) -> bool:
        keys = self._source.now()
        if keys is not None and f"Credential={keys.access_key}/".encode() not in signature:
            return True
        return keys is None or await self._source.renewed(keys) is not None

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(
            value for keys in self._source.values for value in (keys.secret_key, keys.token) if value
        )


async def _value(provider: str, source: Refreshed[T]) -> T:
    try:
        return await source.get()
    except CredentialError as error:
        raise UpstreamAuth(f"{provider} was not asked, since it has no credential: {error}.") from None
