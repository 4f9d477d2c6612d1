"""What every section of the settings is made of, and how secrets agree with their files."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr

PREFIX = "CREDITSTREAM_"


class SettingsInvalid(Exception):
    """A setting is unknown or has a value that is not allowed; says which and what is."""


def _with_real_ports(addresses: str) -> str:
    """Refuse a port that no socket has, in a URL or in one of several host:port by comma."""
    for address in addresses.split(","):
        _ = urlsplit(address if "://" in address else f"//{address}").port
    return addresses


Addresses = Annotated[str, AfterValidator(_with_real_ports)]
NO_SECRET = SecretStr("")


class Section(BaseModel):
    """Settings that belong together; frozen, and unknown ones are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )

    def reset(self, *beginnings: str) -> Self:
        """Give the section with the defaults of those settings whose names begin so."""
        fields = type(self).model_fields
        names = [name for name in fields if name.startswith(beginnings)]
        return self.model_copy(update={name: fields[name].default for name in names})


def _given(section: Section, name: str) -> str | None:
    """Say which of a setting and its file is given; None: neither."""
    for one in (name, f"{name}_file"):
        value = getattr(section, one, None)
        if value is not None and value != NO_SECRET:
            return one
    return None


def one_secret(section: Section, path: str, *names: str) -> None:
    """Refuse a secret that is set both as itself and as its file; raises ValueError."""
    for name in names:
        if _given(section, name) == name and getattr(section, f"{name}_file") is not None:
            one, other = variable(f"{path}.{name}"), variable(f"{path}.{name}_file")
            msg = f"{one} and {other} are both set: set one of them"
            raise ValueError(msg)


def need(section: Section, path: str, by: str, *names: str) -> None:
    """Refuse a section that lacks what `by` needs; raises ValueError."""
    for name in names:
        if _given(section, name) is None:
            has_file = f"{name}_file" in type(section).model_fields
            or_file = " (or …_FILE)" if has_file else ""
            msg = f"{by} needs {variable(f'{path}.{name}')}{or_file}"
            raise ValueError(msg)


def forbid(section: Section, path: str, how: str, *names: str) -> None:
    """Refuse what is set and would not be used; raises ValueError."""
    for name in names:
        if given := _given(section, name):
            msg = f"{variable(f'{path}.{given}')} is set, and not used {how}"
            raise ValueError(msg)


def variable(path: str) -> str:
    """Give the environment's name of a setting, as `kafka.partitions`."""
    return PREFIX + path.replace(".", "__").upper()
