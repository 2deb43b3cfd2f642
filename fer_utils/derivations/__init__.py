"""The mathematics of chapter 6: shapes by counting, gradients by hand.

Every layer's backward function has the same contract::

    dy      gradient of a scalar loss at the layer's output z (the chapter's g), of z's shape
    x, …    what the forward pass was given
    return  dx; for a layer with weights the gradients in the order of its inputs: (dx, dW, …)
            each with its input's shape

They are written in differentiable torch operations on x itself, never on a saved
intermediate, so they can be differentiated once more. Nothing in them calls autograd.

- ``sizes``          output sizes of convolution, pooling, transposed convolution
- ``normalisation``  batch norm; Ioffe & Szegedy 2015, arXiv:1502.03167
- ``entropy``        softmax with cross-entropy; Bridle 1990, Szegedy et al. 2016 (smoothing)
- ``layers``         activations, pools, linear, convolution; Dumoulin & Visin, arXiv:1603.07285
- ``network``        the backward pass of a whole network that is a chain of such layers
- ``checks``         gradient checks, run on ``cases``: six layers, and errors planted in them
- ``symbolic``       the formulas as identities in SymPy
- ``exercise``       a checker of the reader's own six derivatives
"""

from fer_utils.derivations.checks import catch_rates, gradients_by_torch, relative_error
from fer_utils.derivations.entropy import (
    softmax_cross_entropy,
    softmax_cross_entropy_grad,
    softmax_cross_entropy_hessian,
)
from fer_utils.derivations.exercise import check_six
from fer_utils.derivations.layers import (
    average_pool_backward,
    conv2d_backward,
    leaky_relu_backward,
    linear_backward,
    max_pool_backward,
    silu_backward,
)
from fer_utils.derivations.network import network_backward
from fer_utils.derivations.normalisation import (
    batchnorm_backward,
    batchnorm_eval_backward,
    batchnorm_jacobian,
    batchnorm_steps,
)
from fer_utils.derivations.sizes import (
    conv_output_size,
    pool_output_size,
    transposed_output_size,
)
