"""The exception family: what can go wrong at a boundary, one class per remedy.

    SequelaError
    ├── DataError          a file, a stay or a value that cannot be read; the message says where
    │   └── UnitError      a unit that the channel does not accept
    ├── ConfigError        a setting or configuration key that does not hold
    │   └── UsageError     arguments of a command that do not hold or do not go together
    ├── ArtifactError      a model artifact that is damaged, altered or of another schema
    ├── RefusedError       an action that a rule forbids (a gate that is not passed)
    └── BusyError          another process holds what is needed (a lease)

Messages follow `<argument> must be <expectation>, got <shape, type, unit>; <remedy>` and never hold
note text, clinical values or patient identifiers.
"""


class SequelaError(Exception):
    """Root of every error that Sequela raises on purpose."""


class DataError(SequelaError, ValueError):
    """Raised when a file, a stay or a value cannot be read."""


class UnitError(DataError):
    """Raised when a unit is not one that the channel accepts."""


class ConfigError(SequelaError, ValueError):
    """Raised when a setting or a configuration key does not hold."""


class UsageError(ConfigError):
    """Raised when a command's arguments do not hold or do not go together; the exit status of wrong usage is 2."""

    exit_status = 2


class ArtifactError(SequelaError):
    """Raised when a model artifact is damaged, altered or of another schema."""


class RefusedError(SequelaError):
    """Raised when a rule forbids an action, such as a promotion gate that is not passed."""


class BusyError(SequelaError):
    """Raised when another process holds what is needed, such as a lease."""
