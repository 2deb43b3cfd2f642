"""How good the predictions are, how sure that is, and what people say of the same faces.

Common to every function::

    labels         (n,)     int class index, 0 … k-1
    probabilities  (n, k)   one row a face, summing to 1 (to 1e-3; divided by their sum)
    matrix         (k, k)   counts: row = label, column = prediction (ties: the lower index)

A statistic and its bootstrap share one formula, written for a stack of matrices; where
scikit-learn has the statistic too, a test holds both together. What cannot be known (the recall
of a class without a face, the precision of one never predicted) is NaN with the interval [0, 1];
nothing else is ever NaN. Input that is not as above is a ValueError with row and value.

- ``confusion``      counts, composite scores, intervals, classes, pairs of classes, a claim on them
- ``calibration``    NLL, Brier, ECE, top-2, reliability, temperature, declining; ``summary``
- ``comparison``     two fits on the same faces: paired bootstrap, McNemar; faces seen in training
- ``crossed``        several networks on the same faces: intervals over both, agreement of orders
- ``annotators``     votes of the crowd beside labels and predictions
"""

from fer_utils.metrics.annotators import (
    FERPLUS_NOTICE,
    SURE,
    accuracy_by_agreement,
    agreement,
    crowd_agreement,
    divergence,
    error_readings,
    mistakes,
    people_and_network,
    vote_aggregates,
    vote_rows,
    voter_confusion,
    votes_by_class,
    votes_of,
)
from fer_utils.metrics.calibration import (
    TEMPERATURES,
    bootstrap_probabilities,
    checked,
    probability_scores,
    reliability,
    risk_coverage,
    summary,
    temperature,
    tempered,
)
from fer_utils.metrics.comparison import copies, mcnemar, paired_cells, paired_scores, sign_test
from fer_utils.metrics.confusion import (
    bootstrap_scores,
    claim,
    confusion_matrix,
    holm,
    pairs,
    per_class,
    resampled,
    scores,
    shares,
    wilson,
)
from fer_utils.metrics.crossed import (
    concordance,
    crossed_draws,
    crossed_interval,
    crossed_means,
    crossed_scores,
)
