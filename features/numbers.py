"""Arrow's columns of numbers as NumPy's."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def numbers_of(column: pa.ChunkedArray) -> NDArray[Any]:
    """Give integers or floats in their own type, NaN for null; one piece without a copy."""
    # `combine_chunks` copies even one.
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if whole.null_count:
        return whole.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
    # `to_numpy` imports pandas where it is installed: half a second and 46 MiB.
    kind = np.dtype(whole.type.to_pandas_dtype())
    return np.frombuffer(whole.buffers()[1], kind)[whole.offset :][: len(whole)]
