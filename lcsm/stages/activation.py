"""The activations of expand, shrink and inputs, by the names that the configuration uses."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from lcsm.shapes import Tensor

Activation = Callable[[Tensor], Tensor]


def identity(value: Tensor) -> Tensor:
    """The value itself."""
    return value


def one_plus_elu(value: Tensor) -> Tensor:
    """1 + elu, positive everywhere."""
    return 1 + F.elu(value)


def relu_squared(value: Tensor) -> Tensor:
    """relu(x)^2."""
    return F.relu(value).square()


def softmax_rows(value: Tensor) -> Tensor:
    """Softmax over the rows N of a factor [... N P]."""
    return value.softmax(-2)


def gelu_tanh(value: Tensor) -> Tensor:
    """The tanh approximation of GELU, the default of JAX libraries."""
    return F.gelu(value, approximate="tanh")


def linear_sigmoid(value: Tensor) -> Tensor:
    """x + 1/2 above zero, sigmoid below: positive, with slopes of at most one (minGRU, 2410.01201)."""
    return torch.where(value >= 0, value + 0.5, torch.sigmoid(value))


def soft_capped(value: Tensor, cap: float | None) -> Tensor:
    """cap tanh(x / cap), within -cap and cap and nearly x near zero; the value itself without a cap."""
    return value if cap is None else cap * (value / cap).tanh()


# The first eight are those of the EOS paper, in the order of the release's t_type 0 to 7.
ELEMENTWISE: dict[str, Activation] = {
    "identity": identity,
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "one_plus_elu": one_plus_elu,
    "silu": F.silu,
    "elu": F.elu,
    "relu_squared": relu_squared,
    "square": torch.square,
    "exp": torch.exp,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "linear_sigmoid": linear_sigmoid,
}

# For factors [... N P] only: softmax mixes the rows.
ACTIVATIONS: dict[str, Activation] = {**ELEMENTWISE, "softmax": softmax_rows}
