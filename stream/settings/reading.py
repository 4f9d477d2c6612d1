"""Settings read: from the environment, an `.env` file and `--set`; and told again."""

import difflib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from dotenv import dotenv_values
from pydantic import BaseModel, SecretStr, ValidationError

from stream.settings.everything import ENV_FILE, Settings
from stream.settings.section import PREFIX, Section, SettingsInvalid, variable


def read_settings(assignments: Mapping[str, str] | None = None) -> Settings:
    """
    Read the environment and `.env`; `assignments` ("kafka.partitions": "8") win over both.

    Raises SettingsInvalid, naming the setting, its value where that is no secret, and what is
    allowed.
    """
    known = {variable(path): path for path, _ in _leaves(Settings)}
    try:
        written = dotenv_values(ENV_FILE)
    except UnicodeDecodeError as error:
        msg = f"{ENV_FILE} is not UTF-8: {error}"
        raise SettingsInvalid(msg) from None
    for name in (*os.environ, *written):
        if name.startswith(PREFIX) and name.upper() not in known:
            _refuse_unknown(name, list(known))
    values: dict[str, Any] = {}
    for path, value in (assignments or {}).items():
        if path not in known.values():
            _refuse_unknown(path, list(known.values()))
        node = values
        *sections, leaf = path.split(".")
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = value
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(step) for step in first["loc"])
        # A section as a whole may hold the password, and so may an address.
        secret = path in secret_settings() or "@" in str(first["input"])
        plain = path in known.values() and not secret
        shown = f", not {first['input']!r}" if plain else ""
        msg = f"setting {variable(path)} ({path}): {first['msg']}{shown}"
        raise SettingsInvalid(msg) from None


def secret_settings() -> frozenset[str]:
    """Give the settings that hold a secret, as `kafka.sasl_password`."""
    return frozenset(path for path, info in _leaves(Settings) if info.annotation is SecretStr)


def described_settings() -> Iterator[tuple[str, str, str]]:
    """Give each setting's variable, default and meaning."""
    for path, info in _leaves(Settings):
        default = info.default
        shown = "" if isinstance(default, SecretStr) or default is None else str(default)
        yield variable(path), shown, info.description or ""


def environment_of(settings: Settings) -> dict[str, str]:
    """Turn settings back into environment variables, for a child process."""
    environment = {}
    for path, _ in _leaves(Settings):
        node: Any = settings
        for step in path.split("."):
            node = getattr(node, step)
        if isinstance(node, SecretStr):
            node = node.get_secret_value()
        if node is not None and node != "":
            environment[variable(path)] = str(node)
    return environment


def _leaves(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, info in model.model_fields.items():
        here = f"{path}.{name}" if path else name
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            yield from _leaves(info.annotation, here)
        else:
            yield here, info


def _refuse_unknown(name: str, known: list[str]) -> None:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    hint = f"did you mean {close[0]}?" if close else "docs/operating.md has all"
    msg = f"unknown setting {name}: {hint}"
    raise SettingsInvalid(msg)
