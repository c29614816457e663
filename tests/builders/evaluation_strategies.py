import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SPACINGS_MM = st.tuples(*[st.sampled_from([0.5, 0.977, 1.0, 2.5, 3.0])] * 3)


@st.composite
def mask_pairs(draw, *, min_side=1, max_side=6):
    """Draw two masks of one shape; either may be empty or full."""
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=min_side, max_side=max_side))
    masks = hnp.arrays(np.bool_, shape)
    return draw(masks), draw(masks)
