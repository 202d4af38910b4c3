"""Access keys of a role, from AWS STS.

Source: https://docs.aws.amazon.com/STS/latest/APIReference/welcome.html (read 2026-12-01).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit

from modelplex.credentials.source import CredentialError, Expiring
from modelplex.credentials.token_request import FORM, Answered, ask
from modelplex.http_client import HttpClient
from modelplex.providers.signing import UpstreamRequest
from modelplex.providers.sigv4 import AwsKeys, sign

SESSION = "modelplex"
"""The session's name, by which an assumed role is found in CloudTrail."""
VERSION = "2011-06-15"


class RoleKeys:
    """Asks STS for the keys of roles."""

    def __init__(
        self, client: HttpClient, *, region: str, environ: Mapping[str, str], clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._region = region
        usual = f"https://sts.{region}.{dns_suffix(region)}"
        # The variable is that of the AWS SDKs.
        self._url = (environ.get("AWS_ENDPOINT_URL_STS") or usual).rstrip("/")
        self._clock = clock

    def __repr__(self) -> str:
        return f"<RoleKeys from {self._url}>"

    async def of_web_identity(self, role: str, token: str, *, session: str) -> Expiring[AwsKeys]:
        """For the holder of an OpenID token, as on EKS."""
        fields = {
            "Action": "AssumeRoleWithWebIdentity",
            "RoleArn": role,
            "RoleSessionName": session or SESSION,
            "WebIdentityToken": token,
        }
        return await self._ask(fields, None)

    async def assumed(self, role: str, keys: AwsKeys, *, external_id: str) -> Expiring[AwsKeys]:
        """For the holder of `keys`."""
        fields = {"Action": "AssumeRole", "RoleArn": role, "RoleSessionName": SESSION}
        if external_id:
            fields["ExternalId"] = external_id
        return await self._ask(fields, keys)

    async def _ask(self, fields: Mapping[str, str], keys: AwsKeys | None) -> Expiring[AwsKeys]:
        body = urlencode({**fields, "Version": VERSION}).encode("ascii")
        headers = [(b"content-type", FORM)]
        if keys is not None:
            lines = b"content-type: " + FORM + b"\r\n"
            request = UpstreamRequest(b"POST", urlsplit(self._url).netloc, b"/", lines, body)
            now = amz_date(self._clock())
            signed = sign(request, keys, region=self._region, service="sts", now=now)
            pairs = [line.partition(b": ") for line in signed.split(b"\r\n") if line]
            headers += [(name, value) for name, _, value in pairs]
        answered = await ask(
            self._client, f"{self._url}/", place="AWS STS", method=b"POST", headers=headers, body=body
        )
        return _read(answered)


def amz_date(now: float) -> str:
    """Unix seconds as AWS writes a time."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")


def dns_suffix(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"


def _read(answered: Answered) -> Expiring[AwsKeys]:
    """Keys, or the error, of an answer, which is XML."""
    from xml.etree import ElementTree as ET

    try:
        root = ET.fromstring(answered.body)  # noqa: S314 - from AWS, and bounded in size
    except ET.ParseError:
        raise CredentialError(f"AWS STS answered {answered.status} without XML") from None
    values = {each.tag.rpartition("}")[2]: (each.text or "").strip() for each in root.iter()}
    if answered.status != 200:
        reason = f"{values.get('Code', '')}, {values.get('Message', '')}"
        raise CredentialError(f"AWS STS answered {answered.status}: {reason}")
    try:
        expires = datetime.fromisoformat(values["Expiration"]).timestamp()
        keys = AwsKeys(values["AccessKeyId"], values["SecretAccessKey"], values["SessionToken"])
    except (KeyError, ValueError):
        raise CredentialError("AWS STS answered without keys") from None
    return Expiring(keys, expires)
