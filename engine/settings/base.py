"""What every section of a configuration is: a frozen pydantic model that knows no other keys and documents its own."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True, validate_default=True
    )
