"""Conversion of a `Config` to and from dictionaries, flat fields and JSON.

Also where unknown fields and values of the wrong type are refused.
"""

from collections.abc import Mapping
import contextlib
import dataclasses
import difflib
import json
import pathlib
import reprlib
from typing import Any

from cellseg_jax.atomic import replace_text
from cellseg_jax.config import Config, ConfigError


def replace(config: Config, **parts: Mapping[str, Any]) -> Config:
  """Returns `config` with some fields of some parts changed.

  Args:
    config: The configuration to start from.
    **parts: For each named part, the changed fields.

  Raises:
    ConfigError: A part or a field does not exist.

  Examples:
    >>> replace(Config(), training={'steps': 10}).training.steps
    10
  """
  changed = to_dict(config)
  for part, fields in parts.items():
    check_known(part, changed, 'config')
    for field, value in fields.items():
      check_known(field, changed[part], f'config.{part}')
      changed[part][field] = value
  return from_dict(changed)


def to_dict(config: Config) -> dict[str, dict[str, Any]]:
  """Returns the configuration as nested plain dictionaries."""
  return dataclasses.asdict(config)


def from_dict(values: Mapping[str, Mapping[str, Any]]) -> Config:
  """Builds a `Config` from nested dictionaries; defaults fill the rest.

  Args:
    values: Part name to field name to value, as `to_dict` returns.

  Raises:
    ConfigError: A part or a field does not exist, or a value is not of the
      field's type.
  """
  parts: dict[str, Any] = {
    field.name: field.type for field in dataclasses.fields(Config)
  }
  built = {}
  for name, fields in values.items():
    check_known(name, parts, 'config')
    if not isinstance(fields, Mapping):
      raise ConfigError(
        f'config.{name} must hold fields, found {reprlib.repr(fields)}'
      )
    types: dict[str, Any] = {
      f.name: f.type for f in dataclasses.fields(parts[name])
    }
    for field in fields:
      check_known(field, types, f'config.{name}')
    built[name] = parts[name](
      **{
        field: _typed(value, types[field], f'config.{name}.{field}')
        for field, value in fields.items()
      }
    )
  return Config(**built)


def flat(config: Config) -> dict[str, Any]:
  """Returns the configuration as a flat mapping of `part.field` to value."""
  return {
    f'{part}.{field}': value
    for part, fields in to_dict(config).items()
    for field, value in fields.items()
  }


def changed(config: Config, base: Config) -> dict[str, Any]:
  """Returns the `part.field` values of `config` that differ from `base`."""
  before = flat(base)
  return {
    field: value
    for field, value in flat(config).items()
    if value != before[field]
  }


def save(config: Config, path: str | pathlib.Path) -> None:
  """Writes the configuration as a JSON file, atomically."""
  text = json.dumps(to_dict(config), indent=2) + '\n'
  replace_text(pathlib.Path(path), text)


def load(path: str | pathlib.Path) -> Config:
  """Reads a configuration that `save` wrote.

  Raises:
    ConfigError: The file is not a configuration as JSON; the message names the
      file.
    OSError: The file cannot be read.
  """
  path = pathlib.Path(path)
  if path.exists() and not path.is_file():  # Reading a pipe would never end.
    raise ConfigError(f'{path}: is no file')
  try:
    values = json.loads(path.read_text())
    if not isinstance(values, dict):
      raise ConfigError(f'must hold parts, found {reprlib.repr(values)}')
    return from_dict(values)
  except (ValueError, RecursionError) as error:
    raise ConfigError(f'{path}: {error}') from error


def check_known(name: str, known: Mapping[str, Any], where: str) -> None:
  """Refuses the name of a part or field that does not exist.

  Args:
    name: The name to look up.
    known: The existing names, as keys.
    where: What they are fields of, such as `config.data`.

  Raises:
    ConfigError: There is no such name; the message suggests the closest one.
  """
  if name in known:
    return
  name = reprlib.repr(name)[1:-1]  # Shortened: it may be a whole file.
  close = difflib.get_close_matches(name, known, n=1)
  hint = f'; did you mean {where}.{close[0]}?' if close else ''
  raise ConfigError(
    f'{where}.{name}: no such field{hint} (there are: {", ".join(known)})'
  )


def _typed(value: Any, kind: type, where: str) -> Any:
  """Returns `value` if it is of type `kind`; an integer may be a float."""
  if kind is float and type(value) is int:
    with contextlib.suppress(OverflowError):  # Refused below as an integer.
      value = float(value)
  if type(value) is not kind:
    raise ConfigError(
      f'{where} must be of type {kind.__name__}, found {reprlib.repr(value)}'
    )
  return value
