from pathlib import Path

import pytest

from stream.commands.boundary import settings_of
from stream.settings import SettingsInvalid, environment_of, read_settings


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDITSTREAM_KAFKA__PARTITIONS", "12")

    assert read_settings().kafka.partitions == 12


def test_an_assignment_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDITSTREAM_KAFKA__PARTITIONS", "12")

    settings = read_settings({"kafka.partitions": "3"})

    assert settings.kafka.partitions == 3


def test_a_mistyped_variable_is_refused_with_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDITSTREAM_KAFKA__PARTITONS", "12")

    with pytest.raises(SettingsInvalid, match="did you mean CREDITSTREAM_KAFKA__PARTITIONS"):
        read_settings()


def test_a_bad_value_is_refused_by_name() -> None:
    with pytest.raises(
        SettingsInvalid, match=r"kafka\.partitions\): Input should be greater.*, not '0'"
    ):
        read_settings({"kafka.partitions": "0"})


@pytest.mark.parametrize("url", ["ftp://x", "localhost:8123", "chdb://", ""])
def test_a_store_is_where_its_url_says_or_nowhere(url: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"store\.url"):
        read_settings({"store.url": url})


@pytest.mark.parametrize("name", ["CREDITSTREAM_KAFKA__PARTITIONZ", "CREDITSTREAM_RELEASEE"])
def test_a_mistyped_line_of_the_env_file_is_refused_with_the_right_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(f"OTHER=1\n{name}=3\n")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SettingsInvalid, match=f"{name}: did you mean {name[:-1]}"):
        read_settings()


def test_a_secret_is_never_shown() -> None:
    settings = read_settings({"store.password": "hunter2"})
    assert "hunter2" not in repr(settings)

    with pytest.raises(SettingsInvalid) as refused:
        read_settings({"store.password": "hunter2", "store.url": "nowhere"})
    assert "hunter2" not in str(refused.value)


def test_a_child_process_reads_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read_settings({"store.password": "x", "status.port": "0", "reasons": "on_demand"})
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)

    assert read_settings() == settings


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("kafka.decisions", "credit.applications.v1", "has two uses"),
        ("kafka.decisions", "bad topic!", "should match pattern"),
        ("kafka.bootstrap_servers", "", "should match pattern"),
        ("kafka.bootstrap_servers", "broker", "should match pattern"),
        ("swap_seconds", "inf", "finite"),
        ("kafka.bootstrap_servers", "good:9092,broker:99999", "Port out of range"),
        ("kafka.session_timeout", "0.0001", "greater than or equal to 1"),
        ("store.url", "http://127.0.0.1:99999", "Port out of range"),
        ("store.url", "https://127.0.0.1:8443/database", "should match pattern"),
        ("events.max_age_days", "1e9", "less than or equal to 36500"),
        ("events.max_ahead_seconds", "1e300", "less than or equal to 31536000"),
        ("store.url", "http://u:secret@127.0.0.1:1", "should match pattern"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_and_no_secret_shown(
    name: str, value: str, said: str
) -> None:
    with pytest.raises(SettingsInvalid, match=said) as error:
        read_settings({name: value})

    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("assigned", "said"),
    [
        ({"kafka.security_protocol": "SASL_SSL"}, "SASL_SSL needs CREDITSTREAM_KAFKA__SASL_USERN"),
        (
            {"kafka.security_protocol": "SASL_SSL", "kafka.sasl_username": "u"},
            r"SASL_SSL needs CREDITSTREAM_KAFKA__SASL_PASSWORD \(or …_FILE\)",
        ),
        ({"kafka.sasl_username": "u"}, "SASL_USERNAME is set, and not used with PLAINTEXT"),
        ({"kafka.sasl_password_file": "f"}, "PASSWORD_FILE is set, and not used with PLAINTEXT"),
        ({"kafka.ssl_cafile": "f"}, "SSL_CAFILE is set, and not used with PLAINTEXT"),
        (
            {"kafka.security_protocol": "SSL", "kafka.sasl_password": "hunter2"},
            "SASL_PASSWORD is set, and not used with SSL",
        ),
        (
            {"kafka.security_protocol": "SSL", "kafka.ssl_keyfile": "f"},
            "SSL_KEYFILE is set, and not used without …SSL_CERTFILE",
        ),
        (
            {"store.password": "hunter2", "store.password_file": "f"},
            "STORE__PASSWORD and CREDITSTREAM_STORE__PASSWORD_FILE are both set",
        ),
        ({"store.ssl_cafile": "f"}, "STORE__SSL_CAFILE is set, and not used with http:"),
        ({"store.url": "https://h:1", "store.ssl_keyfile": "f"}, "not used without …SSL_CERTFILE"),
        ({"kafka.security_protocol": "TLS"}, "Input should be 'PLAINTEXT', 'SSL'"),
        ({"kafka.sasl_mechanism": "GSSAPI"}, "Input should be 'PLAIN', 'SCRAM-SHA-256'"),
    ],
)
def test_security_that_would_lack_something_or_not_be_used_is_refused(
    assigned: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsInvalid, match=said) as error:
        read_settings(assigned)

    assert "hunter2" not in str(error.value)


def test_a_secret_is_not_taken_from_a_command_line() -> None:
    for secret in ("kafka.sasl_password", "kafka.ssl_key_password", "store.password"):
        with pytest.raises(SettingsInvalid, match=f"{secret} is a secret.*{secret}_file") as error:
            settings_of([f"{secret}=hunter2"])
        assert "hunter2" not in str(error.value)


def test_a_child_process_reads_a_secret_from_the_same_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = read_settings(
        {
            "kafka.security_protocol": "SASL_SSL",
            "kafka.sasl_username": "u",
            "kafka.sasl_password_file": "/run/secrets/password",
        }
    )
    environment = environment_of(settings)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert read_settings() == settings
    assert "CREDITSTREAM_KAFKA__SASL_PASSWORD" not in environment


def test_a_file_of_settings_that_is_no_text_is_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(b"\xff\xfe")

    with pytest.raises(SettingsInvalid, match=r"^\.env is not UTF-8"):
        read_settings()
