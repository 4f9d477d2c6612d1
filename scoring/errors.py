"""Errors of the core: each says what is wrong and names it."""


class SchemaMismatch(Exception):
    """Features of a model, a table or a file are not those that were declared."""


class ModelRefused(Exception):
    """A model is none that gives a default probability."""


class InvalidPolicy(Exception):
    """A policy's field has a value that is not allowed."""

    def __init__(self, path: str, value: object, rule: str) -> None:
        msg = f"policy {path} = {value!r}: {rule}"
        super().__init__(msg)
        self.path = path
        self.value = value
        self.rule = rule
