"""What a filter wants to see: its field, the patches that excite it, the pictures that maximise it.

One definition holds throughout. A filter's *activation* is the output of its convolution
(``layer``, before anything behind it) at a *middle unit*: one whose receptive field lies
whole within the face, so that no zero padding takes part. ``FerCNN``'s last convolution has
four middle units of its 6 × 6, each seeing 40 × 40 pixels. Optima and patches are exactly
that crop, so their activations compare like with like.

``layer`` is a Conv2d's name, the module itself, or None for the last one; ``faces`` are
(n, 1, 48, 48), scaled as the model expects; the model is left as it was found.

- ``receptive_field``   measured from the gradient;  ``field_arithmetic``: the same by the book
- ``responses``         every filter's activation to every face
- ``top_patches``       the crops behind the strongest, median or weakest; ``mean_patch``
- ``maximise``          activation maximisation (Erhan et al. 2009) of all filters in one batch,
                        under ``Prior``; ``maximise_logits``: the same for the outputs
- ``upper_bound``       no picture in range can do more: certified by interval arithmetic
- ``class_tuning``, ``correlations``, ``part_overlap``   what a filter answers to
- ``ablation``          what each class loses when the filter is silenced
- ``inactive``, ``duplicates``                           filters that add nothing
"""

from .field import Field, field_arithmetic, receptive_field
from .meaning import (
    ablation,
    class_tuning,
    correlations,
    duplicates,
    inactive,
    part_overlap,
    upper_bound,
)
from .optima import Optima, Prior, cone, maximise, maximise_logits
from .patches import Patches, Responses, mean_patch, responses, top_patches
