"""Configuration: small frozen groups, one per part, each handed only to the part that needs it.

A value is looked for in the environment first (`TINTYPE_<GROUP>_<NAME>`, or the name the ecosystem already has),
then in `tintype.toml` (`[group]` tables) in the working folder or under the data folder, then the default holds.
Secrets in a file are refused unless the file's mode is 600.
"""

import os
import stat
import tomllib
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from tintype.errors import SetupError


def home() -> Path:
    """The folder that holds all data: `TINTYPE_HOME`, or the default for this kind of machine."""
    if configured := os.environ.get("TINTYPE_HOME"):
        return Path(configured).expanduser().resolve()
    if os.environ.get("RUNPOD_POD_ID") and Path("/workspace").is_dir():
        return Path("/workspace")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/tintype")
    return Path("~/.local/share/tintype").expanduser()


class Group(BaseSettings):
    """One part's settings: frozen, unknown names in its table of `tintype.toml` refused."""

    table: ClassVar[str]
    model_config = SettingsConfigDict(frozen=True, extra="forbid", populate_by_name=True, env_ignore_empty=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, the environment over the file; all by the fields' own names."""
        found = env_settings()
        environment = {
            name: found[key] for name in cls.model_fields for key in (name, *_aliases(cls, name)[::-1]) if key in found
        }
        return init_settings, InitSettingsSource(settings_cls, {**_table(cls), **environment})


class Database(Group):
    """Where PostgreSQL is; without a URL the embedded server under the data folder is used."""

    table = "database"
    model_config = SettingsConfigDict(env_prefix="TINTYPE_DATABASE_")

    url: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("DATABASE_URL"),
        description="PostgreSQL 15 or newer, e.g. postgresql://user:password@host/name.",
    )

    @field_validator("url")
    @classmethod
    def _names_a_server(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            parts = urlsplit(url.get_secret_value())
            if parts.scheme.partition("+")[0] not in ("postgresql", "postgres") or not parts.hostname:
                raise ValueError("must look like postgresql://user:password@host/name")
        return url

    pool_size: int = Field(default=10, ge=2, le=100, description="Connections one process keeps at most.")


class Api(Group):
    """The HTTP server."""

    table = "api"
    model_config = SettingsConfigDict(env_prefix="TINTYPE_API_")

    host: str = Field(default="127.0.0.1", description="Address to listen on; only loopback until accounts exist.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on.")
    public_url: str | None = Field(default=None, description="How clients reach the API when a proxy stands before it.")
    max_body_bytes: int = Field(default=32 << 20, ge=1 << 10, description="Largest request body accepted.")
    sync_wait_s: float = Field(default=180, ge=0, le=3600, description="How long `POST /generate` waits for a picture.")


class Storage(Group):
    """Where pictures are kept."""

    table = "storage"
    model_config = SettingsConfigDict(env_prefix="TINTYPE_STORAGE_")

    url: str | None = Field(
        default=None, description="`s3://bucket/prefix` or a folder; default: `media` under the data folder."
    )
    endpoint: str | None = Field(
        default=None,
        validation_alias=AliasChoices("AWS_ENDPOINT_URL"),
        description="Address of an S3-compatible service other than AWS.",
    )
    region: str = Field(
        default="us-east-1",
        validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"),
        description="Region of the bucket.",
    )
    access_key_id: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("AWS_ACCESS_KEY_ID"),
        description="Key id for S3.",
    )
    secret_access_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("AWS_SECRET_ACCESS_KEY"),
        description="Secret key for S3.",
    )
    url_expiry_s: int = Field(default=3600, ge=10, le=7 * 24 * 3600, description="How long a signed URL is valid.")


class Worker(Group):
    """One worker process."""

    table = "worker"
    model_config = SettingsConfigDict(env_prefix="TINTYPE_WORKER_")

    concurrency: int = Field(default=4, ge=1, le=256, description="Jobs one worker process holds at once.")
    heartbeat_s: float = Field(default=0.75, gt=0.05, le=30, description="How often a worker says it is alive.")
    dead_after_s: float = Field(
        default=3.0, gt=0.2, le=300, description="Silence after which another worker takes a job over."
    )
    drain_s: float = Field(default=30.0, ge=0, description="How long a stopping worker may finish what it holds.")
    max_attempts: int = Field(default=3, ge=1, le=20, description="Runs of one job before it fails for good.")

    @model_validator(mode="after")
    def _beats_often_enough(self) -> Self:
        if self.dead_after_s < 3 * self.heartbeat_s:
            raise ValueError("dead_after_s must be at least three times heartbeat_s, or living workers count as dead")
        return self


class Engine(Group):
    """The built-in engine."""

    table = "engine"
    model_config = SettingsConfigDict(env_prefix="TINTYPE_ENGINE_")

    device: str = Field(default="auto", description="`auto`, `cpu`, `cuda`, `cuda:1` or `mps`.")
    threads: int = Field(default=0, ge=0, le=256, description="Compute threads on CPU; 0 measures and chooses.")


class Logs(Group):
    """What is logged and how."""

    table = "logs"
    model_config = SettingsConfigDict(env_prefix="TINTYPE_LOGS_")

    level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        default="info", description="Least level written."
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="`json` lines, `console` for people; `auto` looks whether a terminal listens.",
    )


GROUPS: tuple[type[Group], ...] = (Database, Api, Storage, Worker, Engine, Logs)

G = TypeVar("G", bound=Group)


def load(group: type[G]) -> G:
    """Read one group.

    Raises:
        SetupError: a value is wrong; the message names it and where it came from.
    """
    try:
        return group()
    except ValidationError as error:
        problems = "; ".join(f"{_source(group, e['loc'])}: {e['msg']}" for e in error.errors())
        raise SetupError(problems) from error


def config_file() -> Path | None:
    """The `tintype.toml` in force: the working folder's, else the data folder's, else none."""
    for folder in (Path.cwd(), home()):
        path = folder / "tintype.toml"
        if path.is_file():
            return path
    return None


def _aliases(group: type[Group], name: str) -> tuple[str, ...]:
    """The variables of the ecosystem that stand for this field."""
    alias = group.model_fields[name].validation_alias
    return tuple(str(choice) for choice in alias.choices) if isinstance(alias, AliasChoices) else ()


def _source(group: type[Group], loc: tuple[int | str, ...]) -> str:
    """Where the value of the field that pydantic calls `loc` came from, for a message; no `loc` is the whole group."""
    if not loc:
        return f"settings [{group.table}]"
    name = next(name for name in group.model_fields if loc[0] in (name, *_aliases(group, name)))
    prefix = group.model_config.get("env_prefix", "")
    variables = (*_aliases(group, name), f"{prefix}{name}".upper())
    return next((v for v in variables if os.environ.get(v)), f"{config_file() or 'settings'}: [{group.table}] {name}")


def _table(group: type[Group]) -> dict[str, Any]:
    path = config_file()
    if path is None:
        return {}
    try:
        document = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SetupError(f"{path}: {error}") from error
    known = {g.table for g in GROUPS}
    if unknown := sorted(set(document) - known):
        raise SetupError(f"{path}: unknown table(s) {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    values: dict[str, Any] = document.get(group.table, {})
    if not isinstance(values, dict):  # pyright: ignore[reportUnnecessaryIsInstance]  TOML may hold anything there
        raise SetupError(f"{path}: {group.table} is a table; write [{group.table}] and its settings below")
    if unknown := sorted(set(values) - set(group.model_fields)):
        raise SetupError(
            f"{path}: [{group.table}] has no {', '.join(unknown)}; known are {', '.join(sorted(group.model_fields))}"
        )
    secret = [name for name, field in group.model_fields.items() if "SecretStr" in str(field.annotation)]
    if any(name in values for name in secret) and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SetupError(f"{path} holds secrets and others can read it: run `chmod 600 {path}`")
    return values
