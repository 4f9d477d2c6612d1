from pathlib import Path

import pytest

from stream.demo.installation import FolderBusy, _alone, _with_ports
from stream.process.supervisor import RoleProcess


def test_a_folder_holds_one_installation_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "demo"

    with _alone(folder):
        with pytest.raises(FolderBusy, match="demo: wait for it, or end it"), _alone(folder):
            pass
        with _alone(tmp_path / "another"):
            pass

    with _alone(folder):
        pass


def test_an_embedded_installation_leaves_out_logins_of_servers_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA__SASL_USERNAME": "u",
        "KAFKA__SASL_PASSWORD": "hunter2",
        "KAFKA__SSL_CAFILE": "ca.pem",
        "STORE__PASSWORD": "hunter2",
        "STORE__SSL_CAFILE": "ca.pem",
    }.items():
        monkeypatch.setenv(f"CREDITSTREAM_{name}", value)

    settings = _with_ports({"store.url": "chdb:///s"}, ["scoring"])["scoring"]
    child = RoleProcess(settings, "scoring")._environment

    assert settings.kafka.security_protocol == "PLAINTEXT"
    given = {name: value for name, value in child.items() if name.startswith("CREDITSTREAM_")}
    assert "hunter2" not in given.values()
    assert not any("SASL_USERNAME" in name or "SSL_CAFILE" in name for name in given)
