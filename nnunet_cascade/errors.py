"""What can go wrong, by name.

A message says what was found, what was expected and what to do, in one line.
"""


class CascadeError(Exception):
    """Any error this package raises on purpose: one line that says what was found, what was expected and what to do.

    Each kind is a built-in error as well, such as ValueError, RuntimeError or TypeError.

    Example:
        >>> try:
        ...     nnc.StageSettings(threshold=2)
        ... except nnc.CascadeError as error:
        ...     print(error)
        threshold must lie between 0 and 1; found 2
    """


class SettingsError(CascadeError, ValueError):
    """A setting lies outside its range, or settings contradict each other."""


class InputImageError(CascadeError, ValueError):
    """An image cannot be read, or is not what the cascade can work on."""


class GridMismatchError(CascadeError, ValueError):
    """Two images that must share a grid do not."""


class EmptyLungsError(CascadeError, ValueError):
    """A lung mask has no voxel where a lung is needed."""


class LungMaskError(CascadeError, RuntimeError):
    """A lung mask source cannot give a mask for this image."""


class NoLungsError(LungMaskError):
    """There is nothing in an image that looks like a lung."""


class RecordError(CascadeError, ValueError):
    """The record of a case cannot be read, or a value in it is not of its type."""


class NewerRecordError(RecordError):
    """The record of a case was written by a newer version of this program."""


class BundleError(CascadeError, ValueError):
    """A bundle folder is incomplete, of another version, or does not fit the data."""


class DatasetError(CascadeError, ValueError):
    """An nnU-Net dataset, plans file or model folder is not as expected."""


class DropoutError(CascadeError, RuntimeError):
    """Stochastic passes were asked of a network that has no active dropout."""


class StepFailedError(CascadeError, RuntimeError):
    """A command that the training chain started did not succeed."""


class RunError(CascadeError, RuntimeError):
    """A run over many cases cannot begin or go on: its folder is in use, or no worker lives."""


class DeviceError(CascadeError, RuntimeError):
    """A device cannot do what is asked of it, such as for lack of memory."""


class DicomError(CascadeError, ValueError):
    """DICOM files are broken, contradict each other, or do not hold what is asked for."""


class WeightsError(CascadeError, ValueError):
    """Weights cannot be read or do not fit a network."""


class ReportError(CascadeError, RuntimeError):
    """A report, or a part of it, cannot be made, shown or served."""


class WrongTypeError(CascadeError, TypeError):
    """An argument is of a type that a function does not take."""


def require_type(value: object, kinds: type | tuple[type, ...], expected: str, *, what: str) -> None:
    """Raise a WrongTypeError unless the argument `what` is of one of these types, which `expected` says in words."""
    if not isinstance(value, kinds):
        raise WrongTypeError(f"{what}: expected {expected}; found {type(value).__name__}")


def one_line(error: BaseException, *, longest: int | None = None) -> str:
    """Return an error's message in one line, cut after `longest` characters, or its type's name if it has none."""
    return (" ".join(str(error).split()) or type(error).__name__)[:longest]
