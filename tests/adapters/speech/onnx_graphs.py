"""Tiny ONNX graphs with the inputs and outputs of silero's generations, written by hand.

The package that makes such files is no dependency. Field numbers are those of ``onnx.proto``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

FLOAT, INT64 = 1, 7

Dims = Sequence[int | str]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _value(name: str, kind: int, dims: Dims) -> bytes:
    shape = b"".join(
        _bytes(1, _int(1, dim) if isinstance(dim, int) else _bytes(2, dim)) for dim in dims
    )
    tensor = _int(1, kind) + _bytes(2, shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, tensor))


def _node(operator: str, inputs: Sequence[str], output: str, *, axes: Sequence[int] = ()) -> bytes:
    node = b"".join(_bytes(1, name) for name in inputs) + _bytes(2, output) + _bytes(4, operator)
    if axes:
        ints = b"".join(_int(8, axis) for axis in axes)
        node += _bytes(5, _bytes(1, "axes") + ints + _int(20, 7))
    return node


def _model(nodes: Sequence[bytes], inputs: Sequence[bytes], outputs: Sequence[bytes]) -> bytes:
    graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, "g")
    graph += b"".join(_bytes(11, each) for each in inputs)
    graph += b"".join(_bytes(12, each) for each in outputs)
    return _int(1, 8) + _bytes(8, _bytes(1, "") + _int(2, 13)) + _bytes(7, graph)


def v5(*, sticky: bool = False) -> bytes:
    """``input state sr`` → ``output stateN``: the loudest of the window and its context.

    Sticky: the loudest that there ever was, kept in the state.
    """
    nodes = [
        _node("Abs", ["input"], "loud"),
        _node("ReduceMax", ["loud"], "most", axes=[1]),
        _node("Max", ["most", "state"], "stateN"),
    ]
    if sticky:
        nodes.append(_node("ReduceMax", ["stateN"], "output", axes=[0, 2]))
    else:
        nodes.append(_node("Identity", ["most"], "output"))
    state: Dims = (2, "batch", 128)
    return _model(
        nodes,
        [
            _value("input", FLOAT, ("batch", "n")),
            _value("state", FLOAT, state),
            _value("sr", INT64, ()),
        ],
        [
            _value("output", FLOAT, ("batch", "o") if not sticky else (1, "batch", 1)),
            _value("stateN", FLOAT, state),
        ],
    )


def v4() -> bytes:
    """``input sr h c`` → ``output hn cn``: the loudest of the window, which has no context."""
    nodes = [
        _node("Abs", ["input"], "loud"),
        _node("ReduceMax", ["loud"], "output", axes=[1]),
        _node("Identity", ["h"], "hn"),
        _node("Identity", ["c"], "cn"),
    ]
    state: Dims = (2, "batch", 64)
    return _model(
        nodes,
        [
            _value("input", FLOAT, ("batch", "n")),
            _value("sr", INT64, ()),
            _value("h", FLOAT, state),
            _value("c", FLOAT, state),
        ],
        [
            _value("output", FLOAT, ("batch", "o")),
            _value("hn", FLOAT, state),
            _value("cn", FLOAT, state),
        ],
    )


def other(kind: Literal["inputs", "state"]) -> bytes:
    """A graph of another kind: other inputs, or silero's with a state of another shape."""
    if kind == "inputs":
        return _model(
            [_node("Abs", ["x"], "y")], [_value("x", FLOAT, ("n",))], [_value("y", FLOAT, ("n",))]
        )
    return _model(
        [_node("ReduceMax", ["input"], "output", axes=[1]), _node("Abs", ["output"], "stateN")],
        [
            _value("input", FLOAT, ("batch", "n")),
            _value("state", FLOAT, (2, "batch", 128)),
            _value("sr", INT64, ()),
        ],
        [_value("output", FLOAT, ("batch", "o")), _value("stateN", FLOAT, ("batch", "o"))],
    )
