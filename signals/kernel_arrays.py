"""Arrays as compiled loops take them."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Element = TypeVar("Element", bound=np.generic)


def for_kernel(array: NDArray[Element]) -> NDArray[Element]:
    """Return `array` read-only and in C order, a view where it is already.

    A mapped array is read-only, one of a test is not, and a slice may have strides: numba would
    compile a loop anew for each. What a loop only reads goes through here, so that serving,
    training and tests share what is compiled, and nothing is compiled within a request.
    """
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
