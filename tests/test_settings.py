"""Settings: where each value comes from, and what is said when one is wrong."""

import os
from pathlib import Path

import pytest

from tintype import settings
from tintype.errors import SetupError


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment without any setting, and the path of the `tintype.toml` that would be read."""
    for name in tuple(os.environ):
        if name.startswith(("TINTYPE_", "AWS_")) or name in ("DATABASE_URL", "COMFYUI_URL", "RUNPOD_POD_ID"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TINTYPE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder / "tintype.toml"


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def test_without_anything_the_defaults_hold():
    assert settings.load(settings.Database).url is None
    api = settings.load(settings.Api)
    assert (api.host, api.port, api.sync_wait_s) == ("127.0.0.1", 8000, 180)


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(file, monkeypatch):
    write(file, "[api]\nport = 7000\nmax_body_bytes = 2048\n")
    assert settings.load(settings.Api).port == 7000
    monkeypatch.setenv("TINTYPE_API_PORT", "9000")
    api = settings.load(settings.Api)
    assert (api.port, api.max_body_bytes, api.host) == (9000, 2048, "127.0.0.1")


def test_an_empty_variable_counts_as_not_set(file, monkeypatch):
    write(file, "[api]\nport = 7000\n")
    monkeypatch.setenv("TINTYPE_API_PORT", "")
    assert settings.load(settings.Api).port == 7000


def test_the_working_folders_file_wins_over_the_data_folders(file):
    write(settings.home() / "tintype.toml", "[api]\nport = 7001\n")
    assert settings.load(settings.Api).port == 7001
    write(file, "[api]\nport = 7000\n")
    assert settings.load(settings.Api).port == 7000


@pytest.mark.parametrize(
    ("group", "field", "names"),
    [
        (settings.Database, "url", ("DATABASE_URL", "TINTYPE_DATABASE_URL")),
        (settings.Storage, "endpoint", ("AWS_ENDPOINT_URL", "TINTYPE_STORAGE_ENDPOINT")),
        (settings.Storage, "region", ("AWS_REGION", "AWS_DEFAULT_REGION", "TINTYPE_STORAGE_REGION")),
        (settings.Storage, "access_key_id", ("AWS_ACCESS_KEY_ID", "TINTYPE_STORAGE_ACCESS_KEY_ID")),
        (settings.Storage, "secret_access_key", ("AWS_SECRET_ACCESS_KEY", "TINTYPE_STORAGE_SECRET_ACCESS_KEY")),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_names_the_ecosystem_has_are_understood_and_win_over_the_file(file, monkeypatch, group, field, names):
    def value() -> str:
        found = getattr(settings.load(group), field)
        return found.get_secret_value() if hasattr(found, "get_secret_value") else found

    def given(source: str) -> str:
        return f"postgresql://{source}/name" if group is settings.Database else source

    write(file, f'[{group.table}]\n{field} = "{given("from-file")}"\n')
    assert value() == given("from-file")
    for name in names:
        monkeypatch.setenv(name, given(f"from-{name}"))
        assert value() == given(f"from-{name}")
        monkeypatch.delenv(name)
    for name in names:
        monkeypatch.setenv(name, given(f"from-{name}"))
    assert value() == given(f"from-{names[0]}")


def test_variables_that_only_happen_to_have_a_fields_name_are_not_ours(monkeypatch):
    for name in ("URL", "REGION", "ENDPOINT", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "PORT", "HOST", "DEVICE", "LEVEL"):
        monkeypatch.setenv(name, "elsewhere")
    for group in settings.GROUPS:
        assert settings.load(group) == group.model_construct(**{n: f.default for n, f in group.model_fields.items()})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[apii]\nport = 1\n", "there is no table [apii]: did you mean [api]?"),
        ("[pictures]\nport = 1\n", "there is no table [pictures]: known are [api], [comfy], [database]"),
        ("[api]\nprot = 1\n", "[api] has no prot: did you mean port?"),
        ("[api]\nqqq = 1\n", "[api] has no qqq: known are host, max_body_bytes, port"),
        ("[database]\nDATABASE_URL = 'x'\n", "[database] has no DATABASE_URL: did you mean url?"),
        ("[worker]\nsync_wait_s = 1\n", "[worker] has no sync_wait_s: did you mean [api] sync_wait_s?"),
        ("[engine]\nurl = 'x'\n", "did you mean [database] url or [storage] url or [comfy] url?"),
        ("api = 1\n", "api is a table"),
        ("[api]\nport = 'many'\n", "[api] port: Input should be a valid integer"),
        ("[api]\nport = 70000\n", "[api] port: Input should be less than or equal to 65535"),
        ("[api\n", "Expected ']'"),
    ],
)
def test_a_wrong_file_is_refused_with_its_path_and_the_place(file, text, says):
    write(file, text)
    with pytest.raises(SetupError) as refused:
        settings.load(settings.Api if "database" not in text else settings.Database)
    assert says in refused.value.detail
    assert str(file) in refused.value.detail


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("TINTYPE_API_PROT", "did you mean TINTYPE_API_PORT?"),
        ("TINTYPE_HOEM", "did you mean TINTYPE_HOME?"),
        ("TINTYPE_DATABSE_URL", "did you mean DATABASE_URL?"),
        ("TINTYPE_LOG_LEVEL", "did you mean TINTYPE_LOGS_LEVEL?"),
        ("TINTYPE_SUPERVISE", "docs/settings.md lists all there are"),
        ("TINTYPE_9Q", "docs/settings.md lists all there are"),
        ("tintype_api_prot", "did you mean TINTYPE_API_PORT?"),
    ],
)
@pytest.mark.parametrize("group", [settings.Engine, settings.Api])
def test_a_variable_that_nobody_reads_is_refused_whatever_is_loaded(monkeypatch, name, says, group):
    monkeypatch.setenv(name, "1")
    with pytest.raises(SetupError) as refused:
        settings.load(group)
    assert refused.value.detail.startswith(f"{name} is no setting: ")
    assert says in refused.value.detail


def test_every_strange_name_is_listed_at_once(file, monkeypatch):
    write(file, "[engine]\ndevise = 'cpu'\nthread = 1\n\n[wroker]\n")
    monkeypatch.setenv("TINTYPE_API_PROT", "1")
    monkeypatch.setenv("TINTYPE_WORKER_CONCURENCY", "1")
    with pytest.raises(SetupError) as refused:
        settings.load(settings.Api)
    lines = refused.value.detail.splitlines()
    assert [line.removeprefix(f"{file}: ").split(":")[0] for line in lines] == [
        "TINTYPE_API_PROT is no setting",
        "TINTYPE_WORKER_CONCURENCY is no setting",
        "[engine] has no devise",
        "[engine] has no thread",
        "there is no table [wroker]",
    ]


def test_all_names_that_are_read_somewhere_are_known(monkeypatch):
    for group in settings.GROUPS:
        for field in group.model_fields:
            monkeypatch.setenv(f"{group.model_config['env_prefix']}{field.upper()}", "x")
    for name in ("TINTYPE_HOME", "tintype_api_port", settings.SUPERVISED, "TINTYPE_TEST_SOAK"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TINTYPE_LEFT_EMPTY", "")
    settings.check_names()


def test_what_kubernetes_tells_about_services_is_no_setting_of_ours(monkeypatch):
    links = ("SERVICE_HOST", "STUDIO_SERVICE_PORT_HTTP", "STUDIO_PORT", "STUDIO_PORT_8000_TCP_ADDR", "PORT_53_UDP")
    for name in links:
        monkeypatch.setenv(f"TINTYPE_{name}", "10.0.0.1")
    with pytest.raises(SetupError) as refused:
        settings.check_names()
    assert len(refused.value.detail.splitlines()) == len(links)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    settings.check_names()


def test_a_file_that_is_not_text_is_refused(file):
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SetupError, match=r"tintype\.toml"):
        settings.load(settings.Api)


@pytest.mark.parametrize(
    ("name", "value", "group"),
    [
        ("TINTYPE_API_PORT", "many", settings.Api),
        ("TINTYPE_WORKER_CONCURRENCY", "0", settings.Worker),
        ("TINTYPE_STORAGE_URL_EXPIRY_S", "9", settings.Storage),
        ("TINTYPE_LOGS_LEVEL", "loud", settings.Logs),
        ("TINTYPE_DATABASE_POOL_SIZE", "1", settings.Database),
    ],
)
def test_a_wrong_value_names_the_variable_it_came_from(monkeypatch, name, value, group):
    monkeypatch.setenv(name, value)
    with pytest.raises(SetupError) as refused:
        settings.load(group)
    assert refused.value.detail.startswith(f"{name}: ")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
@pytest.mark.parametrize(
    ("group", "line"),
    [(settings.Database, "url = 'postgresql://u:p@h/d'"), (settings.Storage, "secret_access_key = 'p'")],
)
def test_a_secret_in_a_file_others_can_read_is_refused_and_not_shown(file, mode, group, line):
    write(file, f"[{group.table}]\n{line}\n", mode)
    with pytest.raises(SetupError) as refused:
        settings.load(group)
    assert f"chmod 600 {file}" in refused.value.detail
    assert "postgresql" not in refused.value.detail
    file.chmod(0o600)
    settings.load(group)


def test_a_file_without_secrets_may_be_readable(file):
    write(file, "[api]\nport = 7000\n", 0o644)
    assert settings.load(settings.Api).port == 7000


def test_secrets_do_not_show_when_settings_are_printed(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hunter2@h/d")
    assert "hunter2" not in repr(settings.load(settings.Database))


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValueError, match="frozen"):
        settings.load(settings.Api).port = 1


@pytest.mark.parametrize("name", [None, "relative/folder", "~/pictures"])
def test_the_data_folder_is_absolute(monkeypatch, name):
    if name is None:
        monkeypatch.delenv("TINTYPE_HOME")
    else:
        monkeypatch.setenv("TINTYPE_HOME", name)
    assert settings.home().is_absolute()


def test_comfyui_servers_are_given_as_addresses_separated_by_commas(monkeypatch: pytest.MonkeyPatch):
    assert settings.load(settings.Comfy).urls == ()
    monkeypatch.setenv("COMFYUI_URL", "http://127.0.0.1:8188/, https://gpu.example:443/comfy")
    assert settings.load(settings.Comfy).urls == ("http://127.0.0.1:8188", "https://gpu.example:443/comfy")
    monkeypatch.setenv("COMFYUI_URL", "http://127.0.0.1:8188, gpu.example:8188")
    with pytest.raises(SetupError, match=r"must look like http://host:8188, not 'gpu\.example:8188'"):
        settings.load(settings.Comfy)


def test_a_public_address_is_the_same_with_a_slash_at_its_end():
    assert settings.Api(public_url="https://example.com/").public_url == "https://example.com"
