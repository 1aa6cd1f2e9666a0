"""Base of the settings models: strictness, names, value types, and findings of rules.

Nothing in this package except `settings.config` imports pulumi, so that the operator's command
and the tests use the models without an engine.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from itertools import pairwise
from textwrap import dedent
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

Path = tuple[str | int, ...]
_EXAMPLE_NUMBER = 2
GIVEN_IN_PART = "What is left out has the default of the field."
"""In the JSON Schema, of a model that may be given in part."""


@dataclass(frozen=True)
class Finding:
    """One thing wrong with a value: where (relative to the model that says so), why, what to write."""

    path: Path
    why: str
    write: Any = None


class Refused(ValueError):
    """Raised by a model's rules; carries every finding, so that all are reported at once."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("; ".join(finding.why for finding in self.findings))


class Settings(BaseModel):
    """Base of all models: frozen, camelCase in YAML, unknown keys forbidden."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        # A model's validator is built when the model is first used: most are only used as part of another.
        defer_build=True,
        # Never echo input in a pydantic message: it may be a secret put in the wrong place.
        hide_input_in_errors=True,
    )

    given_in_part: ClassVar[bool] = False
    """Whether what a stack file leaves out of it is taken from the default of the field where it stands, as in
    `resources: {limits: {memory: 1Gi}}`."""

    @model_validator(mode="before")
    @classmethod
    def _parts(cls, data: Any) -> Any:
        """Complete the fields that are given in part."""
        if isinstance(data, Mapping) and (defaults := _defaults_of_parts(cls)):
            return {key: _complete(defaults[key], value) if key in defaults else value for key, value in data.items()}
        return data

    @model_validator(mode="before")
    @classmethod
    def _numbers(cls, data: Any) -> Any:
        """Refuse what YAML reads as a boolean (yes, on) where a number belongs: pydantic takes it for 1."""
        if isinstance(data, Mapping) and any(isinstance(value, bool) for value in data.values()):
            fields = {key: field for name, field in cls.model_fields.items() for key in (name, field.alias or name)}
            refuse(
                Finding((key,), "is a boolean, not a number", _EXAMPLE_NUMBER)
                for key, value in data.items()
                if isinstance(value, bool) and key in fields and _is_number(fields[key].annotation)
            )
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(self._findings())
        return self

    def _findings(self) -> list[Finding]:
        """Findings of rules between fields; models override it."""
        return []

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe each field by the docstring below it.

        pydantic's `use_attribute_docstrings` reads the sources whenever the models are loaded; a run of the program
        needs no descriptions.
        """
        reference = handler(core_schema)
        properties = handler.resolve_ref_schema(reference).get("properties", {})
        docstrings = _attribute_docstrings(cls)
        for name, field in cls.model_fields.items():
            if name in docstrings and (described := properties.get(field.alias or name)):
                described.setdefault("description", docstrings[name])
        if cls.given_in_part:
            described = handler.resolve_ref_schema(reference)
            described.pop("required", None)
            described["$comment"] = GIVEN_IN_PART
        return reference

    def to_config(self) -> dict[str, Any]:
        """The object as written in a stack file."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


@cache
def _defaults_of_parts(model: type[Settings]) -> dict[str, Settings]:
    """The defaults of the fields that may be given in part, by both names of each."""
    return {
        key: field.default
        for name, field in model.model_fields.items()
        if isinstance(field.default, Settings) and field.default.given_in_part
        for key in (name, field.alias or name)
    }


def _complete(default: Settings, value: Any) -> Any:
    """The object with what it leaves out of the default; anything else unchanged, for its own check."""
    if not isinstance(value, Mapping):
        return value
    complete = dict(value)
    for name in default.model_fields_set:
        alias, part = type(default).model_fields[name].alias or name, getattr(default, name)
        for key in {alias, name} & value.keys():
            if isinstance(part, Settings) and part.given_in_part:
                complete[key] = _complete(part, value[key])
        if not {alias, name} & value.keys():
            complete[alias] = part
    return complete


def _is_number(annotation: Any) -> bool:
    kinds = [annotation, *get_args(annotation)]
    kinds += [inner for kind in kinds for inner in get_args(kind)]
    return any(kind in (int, float) for kind in kinds) and bool not in kinds


def _attribute_docstrings(model: type[Settings]) -> dict[str, str]:
    """The docstring below each field, its own and inherited ones."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__[: model.__mro__.index(Settings)]):
        for statement in ast.parse(dedent(inspect.getsource(cls))).body:
            assert isinstance(statement, ast.ClassDef)
            for field, text in pairwise(statement.body):
                match field, text:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(docstring))):
                        found[name] = inspect.cleandoc(docstring)
    return found


def refuse(findings: Iterable[Finding]) -> None:
    """Raise `Refused` when there is any finding."""
    if found := tuple(findings):
        raise Refused(found)


# -- value types ---------------------------------------------------------------------------------

DIGEST_PATTERN = r"sha256:[0-9a-f]{64}"
EXAMPLE_DIGEST = "sha256:" + "0123456789abcdef" * 4
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_IMAGE = re.compile(rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?@{DIGEST_PATTERN}", re.ASCII)
"""As the reference of an image is written everywhere: https:// and what else a browser shows is no part of it."""


def _image(value: str) -> str:
    if not _IMAGE.fullmatch(value):
        why = (
            "has no digest: a tag can be moved, a digest cannot"
            if "@" not in value
            else "is not repository@sha256:<64 hex digits>"
        )
        raise Refused([Finding((), f"image {why}", f"{value.split('@')[0]}@{EXAMPLE_DIGEST}")])
    return value


def image_digest(image: str) -> str:
    """The `sha256:…` of an image reference."""
    return image.rsplit("@", 1)[1]


ImageRef = Annotated[
    str,
    AfterValidator(_image),
    Field(
        examples=[f"registry.example.com/shop@{EXAMPLE_DIGEST}"],
        json_schema_extra={"pattern": f"^.+@{DIGEST_PATTERN}$"},
    ),
]
Digest = Annotated[str, StringConstraints(pattern=f"^{DIGEST_PATTERN}$"), Field(examples=[EXAMPLE_DIGEST])]
DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"), Field(examples=["backend"])]
HostName = Annotated[
    str,
    StringConstraints(pattern=r"^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=253),
    Field(examples=["shop.example.com"]),
]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$"), Field(examples=["LOG_LEVEL"])]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), Field(examples=["LOG_LEVEL"])]
"""As programs read them: http_proxy, Logging__LogLevel__Default."""
PortNumber = Annotated[int, Field(ge=1, le=65535, examples=[3000])]
Seconds = Annotated[int, Field(ge=1, le=86_400, examples=[60])]
CommandLine = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1), Field(examples=["npm run start:prod"])
]
Cidr = Annotated[str, StringConstraints(pattern=r"^[0-9a-f.:]+/[0-9]{1,3}$"), Field(examples=["10.20.0.0/16"])]

_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
_ANY_QUANTITY = re.compile(r"([+-]?[0-9.]+)([eE][+-]?\d+|[numkMGTPE]|[KMGTPE]i)?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def quantity(text: str) -> Decimal:
    """A Kubernetes quantity as a number, in any form in which the API server writes it."""
    found = _ANY_QUANTITY.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no quantity")
    number, suffix = Decimal(found[1]), found[2] or ""
    if suffix in _BINARY:
        return number * 2 ** _BINARY[suffix]
    if suffix[:1] in ("e", "E") and len(suffix) > 1:
        return Decimal(text)
    return number.scaleb(_DECIMAL.get(suffix, 0))


def as_text(value: object) -> object:
    """Numbers as YAML reads them, where text is meant."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Cpu = Annotated[
    str,
    BeforeValidator(as_text),
    StringConstraints(pattern=_QUANTITY),
    Field(examples=["250m"], description="CPU, in cores or `m` (1/1000)."),
]
Bytes = Annotated[
    str,
    BeforeValidator(as_text),
    StringConstraints(pattern=_QUANTITY),
    Field(examples=["256Mi"], description="Bytes, as `256Mi` or `1Gi`."),
]
