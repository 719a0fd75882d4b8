"""What every section of a configuration is: a frozen pydantic model that knows no other keys and documents its own."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from liit.engine.settings.remote import on_disk, place


class Settings(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True, validate_default=True
    )


AnyPlace = Annotated[str, AfterValidator(place)]
"""A path, or the URL of a place on object storage."""
OnDisk = Annotated[str, AfterValidator(on_disk)]
"""A path on a file system, or a name that is none at all."""
