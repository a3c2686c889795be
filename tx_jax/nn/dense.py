"""The dense layer of all models: kernels stay 2-D and inputs are flattened for them.

The result is the same; but contracting [B, T, D] in three dimensions makes XLA lay out weight gradients badly
(several times slower on CPU, about a fifth of a BERT-base step by the TPU compiler's estimate). Heads of attention on
TPUs are the exception, see `FORMS`.

Shapes: N rows, D inputs, F features.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from tx_jax import sharding
from tx_jax.config import TransformerConfig
from tx_jax.nn import initial
from tx_jax.nn.param import param
from tx_jax.nn.sums import sum_over


class Dense(nn.Module):
    """y = x kernel + bias over the last axis. Parameters are float32 and are cast to `dtype` for the product.

    Attributes:
      form: of the product, see `FORMS`; None = of flattened rows. The values are the same.
    """

    features: int
    init_stddev: float
    dtype: jnp.dtype
    use_bias: bool = True
    form: str | None = None

    def __call__(self, x: jax.Array, product: jax.Array | None = None) -> jax.Array:
        """[..., D] -> [..., F]; `product` [rows, F] is that of x and the kernel, if it is already computed."""
        kernel, bias = self.parameters(x.shape[-1])
        if self.form and x.ndim == 3:
            return FORMS[self.form](x.astype(self.dtype), kernel, bias)
        y = product_of_rows(_rows(x, self.dtype), kernel) if product is None else product
        if bias is not None:
            y = plus_bias(y, bias)
        return sharding.unflatten_rows(y, x.shape[:-1])

    @nn.compact
    def parameters(self, inputs: int) -> tuple[jax.Array, jax.Array | None]:
        """Kernel and bias, in `dtype`."""
        kernel = param(self, "kernel", truncated_normal(self.init_stddev), (inputs, self.features))
        kernel = sharding.gather_param(kernel.astype(self.dtype), (*self.path, "kernel"))
        if not self.use_bias:
            return kernel, None
        bias = param(self, "bias", nn.initializers.zeros_init(), (self.features,))
        return kernel, bias.astype(self.dtype)


def _tokens_last(x_BTD: jax.Array, kernel_DF: jax.Array, bias_F: jax.Array | None) -> jax.Array:
    y_BFT = jnp.einsum("BTD,DF->BFT", x_BTD, kernel_DF)
    y_BFT = y_BFT if bias_F is None else plus_bias(y_BFT, bias_F, 1)
    return y_BFT.swapaxes(1, 2)


def _unflattened(x_BTD: jax.Array, kernel_DF: jax.Array, bias_F: jax.Array | None) -> jax.Array:
    y_BTF = jnp.einsum("BTD,DF->BTF", x_BTD, kernel_DF)
    return y_BTF if bias_F is None else plus_bias(y_BTF, bias_F)


# Both [B, T, D] -> [B, T, F]. A TPU wants queries, keys and values as [B, H, K, T], tokens last, as K is too short for
# its registers. Products that make them so need no copies: otherwise there are 10 of them, forward and backward, 45% of
# attention's time in a layer of BERT base at length 128 by the compiler's estimate.
FORMS = {"into heads": _tokens_last, "out of heads": _unflattened}


def to_heads(y_BTF: jax.Array, heads: int) -> jax.Array:
    """[B, T, F] -> [B, T, H, K]; with no copy if a layer of the form "into heads" has made it."""
    batch, length, features = y_BTF.shape
    y_BHKT = y_BTF.swapaxes(1, 2).reshape(batch, heads, features // heads, length)
    return y_BHKT.transpose(0, 3, 1, 2)


def from_heads(y_BTHK: jax.Array) -> jax.Array:
    """[B, T, H, K] -> [B, T, F], for a layer of the form "out of heads"."""
    batch, length, heads, size = y_BTHK.shape
    return y_BTHK.transpose(0, 2, 3, 1).reshape(batch, heads * size, length).swapaxes(1, 2)


def project(x: jax.Array, *layers: Dense) -> tuple[jax.Array, ...]:
    """The output of each layer, from the same input. Layers of one call have the same features and dtype.

    With kernels split by columns, each device has a partial sum of the gradient of x. Separate layers would each need a
    sum over the devices; here each device first adds up the contributions of its parts of all kernels (Megatron,
    Shoeybi et al. 2019, figure 4).
    """
    if len(layers) == 1 or not sharding.splits_kernels():
        return tuple(layer(x) for layer in layers)
    products = _multiply(_rows(x, layers[0].dtype), tuple(layer.parameters(x.shape[-1])[0] for layer in layers))
    return tuple(layer(x, product) for layer, product in zip(layers, products, strict=True))


def _rows(x: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return sharding.flatten_rows(x.astype(dtype))


@jax.custom_vjp
def product_of_rows(x_ND: jax.Array, kernel_DF: jax.Array) -> jax.Array:
    """x kernel, [N, F]."""
    return x_ND @ kernel_DF


product_of_rows.defvjp(
    # A plain product, which `remat="dots"` keeps; it would not recognize a call of this function.
    lambda x, kernel: (x @ kernel, (x, kernel)),
    lambda saved, gradient: (gradient @ saved[1].T, kernel_gradient(saved[0], gradient)),
)


def kernel_gradient(x_ND: jax.Array, gradient_NF: jax.Array, dtype: jnp.dtype | None = None) -> jax.Array:
    """x^T gradient, [D, F], of a dtype; None: that of x and gradient.

    XLA's product for CPUs reads a transposed matrix where it lies, which is slow where the result is tall, and within a
    train step is a product of one thread. So x is transposed in memory, or, where the result is tall, the gradient, and
    then the result: with D 1,024 and F 256 5.6 for 8.3 ms, with 256 and 256 1.6 for 1.9 (2,048 rows; 2 cores of an AMD
    EPYC with AVX-512, jax 0.10.2).
    """
    product = functools.partial(jnp.dot, preferred_element_type=dtype)

    def plain(x_ND: jax.Array, gradient_NF: jax.Array) -> jax.Array:
        return product(x_ND.T, gradient_NF)

    def transposed(x_ND: jax.Array, gradient_NF: jax.Array) -> jax.Array:
        gradient_FN = jax.lax.optimization_barrier(gradient_NF.T)  # or the compiler would undo it
        return jax.lax.optimization_barrier(product(gradient_FN, x_ND)).T

    def inputs_transposed(x_ND: jax.Array, gradient_NF: jax.Array) -> jax.Array:
        return product(jax.lax.optimization_barrier(x_ND.T), gradient_NF)

    on_cpu = inputs_transposed if x_ND.shape[1] <= gradient_NF.shape[1] else transposed
    return jax.lax.platform_dependent(x_ND, gradient_NF, cpu=on_cpu, default=plain)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def plus_bias(y: jax.Array, bias_F: jax.Array, axis: int = -1) -> jax.Array:
    """y + bias along an axis of y, of size F."""
    return y + jnp.expand_dims(bias_F, _others(y, axis))


def _plus_bias_backward(axis: int, _: None, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    return gradient, sum_over(gradient, _others(gradient, axis)).astype(gradient.dtype)


plus_bias.defvjp(lambda y, bias, axis: (plus_bias(y, bias, axis), None), _plus_bias_backward)


def _others(y: jax.Array, axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(y.ndim) if other != axis % y.ndim)


@jax.custom_vjp
def _multiply(x: jax.Array, kernels: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """x times each kernel. In the backward pass the gradient of x is one product."""
    return tuple(x @ kernel for kernel in kernels)


def _multiply_backward(
    saved: tuple[jax.Array, tuple[jax.Array, ...]], gradients: tuple[jax.Array, ...]
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    x, kernels = saved
    # n kernels, r rows, d inputs, f features
    gradient = jnp.einsum("nrf,ndf->rd", jnp.stack(gradients), jnp.stack(kernels))
    return gradient, tuple(kernel_gradient(x, each) for each in gradients)


def _multiply_forward(x: jax.Array, kernels: tuple[jax.Array, ...]) -> tuple[tuple[jax.Array, ...], tuple]:
    # Plain products, which `remat="dots"` keeps; it would not recognize a call of `_multiply`.
    return tuple(x @ kernel for kernel in kernels), (x, kernels)


_multiply.defvjp(_multiply_forward, _multiply_backward)


def truncated_normal(stddev: float) -> nn.initializers.Initializer:
    """N(0, stddev) truncated at two standard deviations and not rescaled, as google-research/bert initializes."""

    def initialize(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        return initial.truncated_normal(key, jnp.float32(stddev), shape).astype(dtype)

    return initialize


def residual_stddev(config: TransformerConfig) -> float:
    """Initial standard deviation of the kernels whose output is added to the residual (Radford et al. 2019, 2.3)."""
    return config.init_stddev * ((2 * config.num_layers) ** -0.5 if config.scale_residual_init else 1.0)
