"""How good the predictions are, how sure that is, and what people say of the same faces.

Common to every function::

    labels         (n,)     int class index, 0 … k-1
    probabilities  (n, k)   one row a face, summing to 1 (to 1e-3; divided by their sum)
    matrix         (k, k)   counts: row = label, column = prediction (ties: the lower index)

A statistic and its bootstrap share one formula, written for a stack of matrices; where
scikit-learn has the statistic too, a test holds both together. What cannot be known (the recall
of a class without a face, the precision of one never predicted) is NaN with the interval [0, 1];
where else there is NaN, the function says so. *Significant* means p < 0.05, after Holm's
correction where several tests are made. Input that is not as above is a ValueError with row and
value.

- ``confusion``      counts, composite scores, intervals, classes, pairs of classes, a claim on them
- ``calibration``    NLL, Brier, ECE with its null band, reliability, and the ``summary`` that
                     metrics.json holds
- ``comparison``     networks on the same faces: McNemar, two-way bootstrap
- ``annotators``     votes of the crowd beside labels and predictions
"""

from .annotators import (
    FERPLUS_NOTICE,
    agreement,
    clear_majority,
    crowd_answer,
    divergence,
    label_agreement,
    mistakes,
    pair_gaps,
    people_and_network,
    readings,
    vote_rows,
    votes_of,
)  # fmt: skip
from .calibration import (
    calibration_error,
    reliability,
    summary,
)  # fmt: skip
from .comparison import (
    crossed_draws,
    crossed_interval,
    crossed_means,
    crossed_pairs,
    crossed_scores,
    disagreement,
    favoured,
    mcnemar,
    paired_cells,
    sign_test,
)  # fmt: skip
from .confusion import (
    beats_guessing,
    claim,
    confusion_matrix,
    holm,
    pairs,
    per_class,
    resampled,
    scores,
    shares,
    unanimous,
    wilson,
)  # fmt: skip
