"""Access keys of AWS by the default chain, in the order of AWS's own libraries."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from modelplex.credentials.aws import AwsCredentials, AwsSettings
from modelplex.credentials.source import CredentialError, Expiring
from modelplex.http_client import HttpClient
from modelplex.providers.sigv4 import AwsKeys
from tests.credentials.clouds import Clock, Reply, cloud, form
from tests.credentials.test_aws_sts import STS_REPLY
from tests.upstreams import Seen

NOW = 1_800_000_000.0
MACHINE = {
    "Code": "Success",
    "AccessKeyId": "A",
    "SecretAccessKey": "S",
    "Token": "T",
    "Expiration": "2027-01-15T09:00:00Z",
}
MACHINES = Expiring(AwsKeys("A", "S", "T"), NOW + 3600)


class Machine:
    """Every service of AWS that the chain may ask."""

    def __init__(self, *, role: bool = True) -> None:
        self.role = role

    def __call__(self, seen: Seen) -> Reply:
        if seen.target == "/latest/api/token":
            return 200, b"imds-token"
        if seen.target.startswith("/latest/meta-data/iam/security-credentials/"):
            assert seen.headers["x-aws-ec2-metadata-token"] == "imds-token"
            if not self.role:
                return 404, b""
            name = seen.target.rpartition("/")[2]
            return (200, MACHINE) if name else (200, b"my-role\n")
        if seen.target == "/container":
            assert seen.headers["authorization"] == "proof"
            return 200, MACHINE
        if seen.target.startswith("/federation/credentials"):
            if seen.headers["x-amz-sso_bearer_token"] != "sso-token":
                return 401, {"message": "Session token not found or invalid"}
            keys = {
                "accessKeyId": "A",
                "secretAccessKey": "S",
                "sessionToken": "T",
                "expiration": int(NOW + 3600) * 1000,
            }
            return 200, {"roleCredentials": keys}
        return 200, STS_REPLY


async def fetched(
    folder: Path,
    *,
    environ: dict[str, str] | None = None,
    config: str = "",
    credentials: str = "",
    machine: Machine | None = None,
    **settings: str,
) -> tuple[Expiring[AwsKeys], list[Seen]]:
    (folder / ".aws").mkdir(exist_ok=True)
    (folder / ".aws" / "config").write_text(config)
    (folder / ".aws" / "credentials").write_text(credentials)
    client = HttpClient()
    try:
        async with cloud(machine or Machine()) as service:
            own = {
                "HOME": str(folder),
                "AWS_ENDPOINT_URL_STS": service.url,
                "AWS_ENDPOINT_URL_SSO": service.url,
                "AWS_EC2_METADATA_SERVICE_ENDPOINT": service.url,
                **{name: value.replace("CLOUD", service.url) for name, value in (environ or {}).items()},
            }
            source = AwsCredentials(
                AwsSettings(region="us-east-1", **settings), client, environ=own, clock=Clock(NOW)
            )
            return await source.fetch(), service.seen
    finally:
        await client.aclose()


ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "EA", "AWS_SECRET_ACCESS_KEY": "ES"}
DEFAULT = "[default]\naws_access_key_id = DA\naws_secret_access_key = DS\n"
CONTAINER = {
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "CLOUD/container",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN": "proof",
}


async def test_the_environment_comes_first(tmp_path: Path) -> None:
    found, seen = await fetched(tmp_path, environ={**ENVIRONMENT, **CONTAINER}, credentials=DEFAULT)
    assert (found, seen) == (Expiring(AwsKeys("EA", "ES")), [])


async def test_a_session_of_the_environment_has_a_token(tmp_path: Path) -> None:
    found, _ = await fetched(tmp_path, environ={**ENVIRONMENT, "AWS_SESSION_TOKEN": "ET"})
    assert found.value == AwsKeys("EA", "ES", "ET")


async def test_the_default_profile_comes_before_the_container(tmp_path: Path) -> None:
    found, _ = await fetched(tmp_path, environ=CONTAINER, credentials=DEFAULT)
    assert found.value == AwsKeys("DA", "DS")


async def test_the_container_comes_before_the_machine(tmp_path: Path) -> None:
    found, (seen,) = await fetched(tmp_path, environ=CONTAINER)
    assert (found, seen.target) == (MACHINES, "/container")


async def test_a_containers_token_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("proof\n")
    environ = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "CLOUD/container",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
    }
    assert (await fetched(tmp_path, environ=environ))[0] == MACHINES


async def test_the_machine_has_a_role(tmp_path: Path) -> None:
    found, seen = await fetched(tmp_path)
    assert found == MACHINES
    assert [each.target.rpartition("/")[2] for each in seen] == ["token", "", "my-role"]
    assert seen[0].head.startswith(b"PUT ")


async def test_a_web_identity_gets_a_role(tmp_path: Path) -> None:
    (tmp_path / "jwt").write_text("token-of-the-pod")
    environ = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "jwt"), "AWS_ROLE_ARN": "arn:aws:iam::1:role/r"}
    found, (seen,) = await fetched(tmp_path, environ=environ, credentials=DEFAULT)
    assert found.value == AwsKeys("STSA", "STSS", "STST")
    assert form(seen)["WebIdentityToken"] == "token-of-the-pod"


async def test_a_profile_is_chosen_by_the_config_or_the_environment(tmp_path: Path) -> None:
    credentials = DEFAULT + "[other]\naws_access_key_id = OA\naws_secret_access_key = OS\n"
    by_config, _ = await fetched(tmp_path, credentials=credentials, environ=ENVIRONMENT, profile="other")
    by_environment, _ = await fetched(tmp_path, credentials=credentials, environ={"AWS_PROFILE": "other"})
    assert by_config == by_environment == Expiring(AwsKeys("OA", "OS"))


async def test_a_role_is_assumed_with_the_keys_of_its_source(tmp_path: Path) -> None:
    config = "[profile work]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = default\nexternal_id = e\n"
    found, (seen,) = await fetched(tmp_path, config=config, credentials=DEFAULT, profile="work")
    assert found.value == AwsKeys("STSA", "STSS", "STST")
    assert form(seen)["RoleArn"] == "arn:aws:iam::1:role/r"
    assert form(seen)["ExternalId"] == "e"
    assert "Credential=DA/" in seen.headers["authorization"]


async def test_a_role_of_the_config_is_assumed_with_what_was_found(tmp_path: Path) -> None:
    _, (seen,) = await fetched(tmp_path, environ=ENVIRONMENT, role="arn:aws:iam::2:role/x")
    assert form(seen)["RoleArn"] == "arn:aws:iam::2:role/x"
    assert "Credential=EA/" in seen.headers["authorization"]


@pytest.mark.parametrize("source", ["Environment", "Ec2InstanceMetadata", "EcsContainer"])
async def test_a_role_may_have_another_source(source: str, tmp_path: Path) -> None:
    config = f"[profile work]\nrole_arn = r\ncredential_source = {source}\n"
    found, _ = await fetched(tmp_path, config=config, environ={**ENVIRONMENT, **CONTAINER}, profile="work")
    assert found.value.access_key == "STSA"


def signed_in(
    folder: Path, session: str, *, token: str = "sso-token", until: str = "2027-01-16T00:00:00Z"
) -> str:
    cache = folder / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha1(session.encode(), usedforsecurity=False).hexdigest()
    (cache / f"{name}.json").write_text(json.dumps({"accessToken": token, "expiresAt": until}))
    return (
        f"[sso-session {session}]\nsso_start_url = https://x.awsapps.com/start\nsso_region = eu-west-1\n"
        f"[profile work]\nsso_session = {session}\nsso_account_id = 1\nsso_role_name = Dev\n"
    )


async def test_a_sign_in_of_the_command_line_is_used(tmp_path: Path) -> None:
    config = signed_in(tmp_path, "corp")
    found, (seen,) = await fetched(tmp_path, config=config, profile="work")
    assert found == MACHINES
    assert seen.target == "/federation/credentials?role_name=Dev&account_id=1"


@pytest.mark.parametrize(
    ("token", "until", "reason"),
    [
        ("sso-token", "2027-01-14T00:00:00Z", "has expired"),
        ("another", "2027-01-16T00:00:00UTC", "is refused"),
        ("sso-token", "soon", "is not signed in"),
    ],
)
async def test_an_old_sign_in_names_the_command(tmp_path: Path, token: str, until: str, reason: str) -> None:
    config = signed_in(tmp_path, "corp", token=token, until=until)
    with pytest.raises(CredentialError, match=f"{reason}; run: aws sso login --profile work"):
        await fetched(tmp_path, config=config, profile="work")


async def test_a_process_prints_keys(tmp_path: Path) -> None:
    keys = {"Version": 1, "AccessKeyId": "PA", "SecretAccessKey": "PS", "SessionToken": "PT"}
    script = tmp_path / "keys.py"
    script.write_text(f"print({json.dumps(json.dumps(keys))})")
    config = f"[profile work]\ncredential_process = {sys.executable} {script}\n"
    found, _ = await fetched(tmp_path, config=config, profile="work")
    assert found == Expiring(AwsKeys("PA", "PS", "PT"))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("", "there is no AWS profile 'work'"),
        ("[profile work]\nregion = x\n", "has no keys, role_arn"),
        ("[profile work]\nrole_arn = r\n", "a role_arn without a source_profile"),
        ("[profile work]\nrole_arn = r\nsource_profile = work\n", "names itself as source"),
        (
            "[profile work]\nrole_arn = r\nsource_profile = b\n[profile b]\nrole_arn = r\nsource_profile = work\n",
            "too long a chain",
        ),
        ("no section", "is no file of AWS profiles"),
    ],
)
async def test_a_profile_without_keys_is_told(tmp_path: Path, config: str, reason: str) -> None:
    with pytest.raises(CredentialError, match=reason):
        await fetched(tmp_path, config=config, profile="work")


async def test_where_there_is_nothing_all_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match=r"no credentials of AWS: .*knows no role of this machine"):
        await fetched(tmp_path, machine=Machine(role=False))
    with pytest.raises(CredentialError, match="AWS_EC2_METADATA_DISABLED is true"):
        await fetched(tmp_path, environ={"AWS_EC2_METADATA_DISABLED": "true"})
