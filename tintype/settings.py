"""Configuration: small frozen groups, one per part, each handed only to the part that needs it.

A value is looked for in the environment first (`TINTYPE_<GROUP>_<NAME>`, or the name the ecosystem already has),
then in `tintype.toml` (`[group]` tables) in the working folder or under the data folder, then the default holds.
Secrets in a file are refused unless the file's mode is 600. A `TINTYPE_*` variable or a name in the file that nobody
reads is refused as well: a misspelt setting would otherwise leave the default in force, unnoticed.
"""

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, cast
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from tintype.errors import SetupError

HOME = "TINTYPE_HOME"
SUPERVISED = "TINTYPE_SUPERVISED"
"""Set for children of `tintype up`: their standard input is a pipe that closes when the supervisor is gone."""

FOR_TESTS = "TINTYPE_TEST_"
"""What begins so is read by tests alone."""

# What Kubernetes tells every pod about services whose names begin with `tintype`.
SERVICE_LINK = re.compile(r"TINTYPE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")


def home() -> Path:
    """The folder that holds all data: `TINTYPE_HOME`, or the default for this kind of machine."""
    if configured := os.environ.get(HOME):
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

    @field_validator("public_url")
    @classmethod
    def _ends_without_a_slash(cls, value: str | None) -> str | None:
        return value.rstrip("/") if value is not None else None


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
        default=None, validation_alias=AliasChoices("AWS_ACCESS_KEY_ID"), description="Key id for S3."
    )
    secret_access_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("AWS_SECRET_ACCESS_KEY"), description="Secret key for S3."
    )
    url_expiry_s: int = Field(default=3600, ge=10, le=7 * 24 * 3600, description="How long a signed URL is valid.")


class Worker(Group):
    """One worker process."""

    table = "worker"
    model_config = SettingsConfigDict(env_prefix="TINTYPE_WORKER_")

    concurrency: int = Field(
        default=16, ge=1, le=256, description="Jobs one worker holds at once for each provider that runs as many."
    )
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
    concurrency: int = Field(default=16, ge=1, le=256, description="Requests the engine has in work at once.")
    memory_bytes: int = Field(
        default=0, ge=0, description="Memory of the device to use; 0 takes nine tenths of what is free at the start."
    )
    attention: Literal["auto", "flash", "cudnn", "efficient", "math"] = Field(
        default="auto",
        description="The kernel of attention; `auto` measures. Workers that draw the same bits need the same one.",
    )
    compile: Literal["auto", "off", "on"] = Field(
        default="auto",
        description="Whether networks are compiled while they run; `auto` does so on CUDA. Needs a C++ compiler.",
    )


class Comfy(Group):
    """ComfyUI servers that make pictures."""

    table = "comfy"
    model_config = SettingsConfigDict(env_prefix="TINTYPE_COMFY_")

    url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("COMFYUI_URL"),
        description="Address of a ComfyUI server, e.g. http://127.0.0.1:8188; several are separated by commas.",
    )
    models: Path | None = Field(
        None, description="Models `tintype comfy up` shows ComfyUI; default: `models` in the data folder."
    )
    answer_s: float = Field(default=30.0, gt=0, le=600, description="Longest a server may take to answer.")
    concurrency: int = Field(default=2, ge=1, le=64, description="Jobs that one worker gives to one server at once.")
    free_after_s: float = Field(default=600.0, ge=0, description="Idle time before a server unloads models; 0: never.")

    @property
    def urls(self) -> tuple[str, ...]:
        """The address of each server, without a slash at the end."""
        return tuple(one.strip().rstrip("/") for one in (self.url or "").split(",") if one.strip())

    @model_validator(mode="after")
    def _names_servers(self) -> Self:
        for url in [url for url in self.urls if not re.match(r"https?://[^/]", url)]:
            raise ValueError(f"COMFYUI_URL must look like http://host:8188, not {url!r}")
        return self


class Intake(Group):
    """What strangers hand in: links, weights, videos."""

    table = "intake"
    model_config = SettingsConfigDict(env_prefix="TINTYPE_INTAKE_")

    fetch_links: bool = Field(default=False, description="Fetch pictures from http(s) links in requests.")
    fetch_max_bytes: int = Field(default=30 << 20, ge=1 << 10, description="Most that is taken from one link.")
    fetch_total_s: float = Field(default=20, gt=0, le=600, description="Longest one link may take, all told.")
    convert_timeout_s: float = Field(default=900, gt=0, le=86_400, description="Longest a conversion of weights takes.")
    ffprobe: str = Field(default="ffprobe", description="The program that looks into videos: a name or a path.")


class Provenance(Group):
    """How pictures are labelled as made by a machine; that they are is no setting."""

    table = "provenance"
    model_config = SettingsConfigDict(env_prefix="TINTYPE_PROVENANCE_")

    certificate_chain: Path | None = Field(
        default=None,
        description="PEM file of the certificates to sign with, signing one first; default: made at start.",
    )
    private_key: Path | None = Field(default=None, description="PKCS#8 PEM file of the signing certificate's key.")
    tsa_url: str | None = Field(default=None, description="RFC 3161 time stamp authority that dates each signature.")
    trusted_roots: Path | None = Field(None, description="PEM file of roots whose signatures inspection trusts.")
    mark_key: SecretStr | None = Field(None, description="Key of the invisible mark; default: one that all share.")
    label_text: str | None = Field(default=None, max_length=40, description="Words drawn visibly onto every picture.")
    label_logo: Path | None = Field(default=None, description="PNG drawn visibly onto every picture, instead of words.")
    label_corner: Literal["top_left", "top_right", "bottom_left", "bottom_right"] = Field(
        default="bottom_right", description="Where the visible label goes."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.certificate_chain is None) != (self.private_key is None):
            raise ValueError("certificate_chain and private_key go together: set both or neither")
        if self.label_text and self.label_logo:
            raise ValueError("set label_text or label_logo, not both")
        return self

    @field_validator("tsa_url")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url is not None and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
            raise ValueError("must look like http://host/path")
        return url


class Logs(Group):
    """What is logged and how."""

    table = "logs"
    model_config = SettingsConfigDict(env_prefix="TINTYPE_LOGS_")

    level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        default="info", description="Least level written."
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="`json` lines, `console` for people; `auto` looks whether a terminal listens."
    )


GROUPS: tuple[type[Group], ...] = (Database, Api, Storage, Worker, Engine, Comfy, Intake, Provenance, Logs)

G = TypeVar("G", bound=Group)


def load(group: type[G]) -> G:
    """Read one group.

    Raises:
        SetupError: a value is wrong, or a name (see `check_names`); the message says which and where it came from.
    """
    check_names()
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


def check_names() -> None:
    """Refuse names that nobody reads, of whichever group: in the environment and in the `tintype.toml` in force.

    Raises:
        SetupError: there are some; all are listed, each with the name it resembles most.
    """
    if problems := [*_strange_variables(), *_strange_names()]:
        raise SetupError("\n".join(problems))


def _strange_variables() -> Iterator[str]:
    known = {HOME: HOME}
    for group in GROUPS:
        for name in group.model_fields:
            known |= dict.fromkeys(_variables(group, name), _variables(group, name)[0])
    for variable in sorted(os.environ):
        name = variable.upper()
        if not name.startswith("TINTYPE_") or name in known or not os.environ[variable]:
            continue
        if name == SUPERVISED or name.startswith(FOR_TESTS):
            continue
        if "KUBERNETES_SERVICE_HOST" in os.environ and SERVICE_LINK.fullmatch(name):
            continue
        short = {spelt.removeprefix("TINTYPE_"): spelt for spelt in known}  # what all have in common says nothing
        meant = difflib.get_close_matches(name.removeprefix("TINTYPE_"), short, n=1)
        mend = f"did you mean {known[short[meant[0]]]}?" if meant else "unset it; docs/settings.md lists all there are"
        yield f"{variable} is no setting: {mend}"


def _strange_names() -> Iterator[str]:
    path, document = _document()
    groups = {group.table: group for group in GROUPS}
    for table, values in document.items():
        if table not in groups:
            yield f"{path}: there is no table [{table}]: {_meant(table, {name: f'[{name}]' for name in groups})}"
            continue
        if not isinstance(values, dict):
            yield f"{path}: {table} is a table; write [{table}] and its settings below"
            continue
        fields = groups[table].model_fields
        own = {spelt: name for name in fields for spelt in (name, *_variables(groups[table], name))}
        for key in sorted(set(cast("dict[str, Any]", values)) - set(fields)):
            elsewhere = " or ".join(f"[{group.table}] {key}" for group in GROUPS if key in group.model_fields)
            mend = f"did you mean {elsewhere}?" if elsewhere else _meant(key, own)
            yield f"{path}: [{table}] has no {key}: {mend}"


def _meant(name: str, known: dict[str, str]) -> str:
    """The name that is most like `name`, as a question; all names where none is like it. Maps spellings to names."""
    found = difflib.get_close_matches(name, known, n=1) or difflib.get_close_matches(name.upper(), known, n=1)
    return f"did you mean {known[found[0]]}?" if found else f"known are {', '.join(sorted(set(known.values())))}"


def _variables(group: type[Group], name: str) -> tuple[str, ...]:
    """The variables that set this field, the one the documentation names first."""
    return (*_aliases(group, name), f"{group.model_config.get('env_prefix', '')}{name}".upper())


def _aliases(group: type[Group], name: str) -> tuple[str, ...]:
    """The variables of the ecosystem that stand for this field."""
    alias = group.model_fields[name].validation_alias
    return tuple(str(choice) for choice in alias.choices) if isinstance(alias, AliasChoices) else ()


def _source(group: type[Group], loc: tuple[int | str, ...]) -> str:
    """Where the value of the field that pydantic calls `loc` came from, for a message; no `loc` is the whole group."""
    if not loc:
        return f"settings [{group.table}]"
    name = next(name for name in group.model_fields if loc[0] in (name, *_aliases(group, name)))
    place = f"{config_file() or 'settings'}: [{group.table}] {name}"
    return next((variable for variable in _variables(group, name) if os.environ.get(variable)), place)


def _table(group: type[Group]) -> dict[str, Any]:
    path, document = _document()
    values: dict[str, Any] = document.get(group.table, {})
    secret = [name for name, field in group.model_fields.items() if "SecretStr" in str(field.annotation)]
    if path and any(name in values for name in secret) and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SetupError(f"{path} holds secrets and others can read it: run `chmod 600 {path}`")
    return values


def _document() -> tuple[Path | None, dict[str, Any]]:
    """The `tintype.toml` in force and what it says."""
    path = config_file()
    if path is None:
        return None, {}
    try:
        return path, tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SetupError(f"{path}: {error}") from error
