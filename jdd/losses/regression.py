"""Kernel ridge regression on features (FRePo)."""

import jax
import jax.numpy as jnp

_SMALLEST = 1e-24  # of K's trace: features of zero predict zeros


def kernel_ridge_regression(
    synthetic_features: jax.Array,
    targets: jax.Array,
    real_features: jax.Array,
    ridge: float = 1e-6,
) -> jax.Array:
    """What a linear classifier, fit to the synthetic features, says of the real ones:

        K_rs (K_ss + λ (tr K_ss / n) I)⁻¹ y,    K_rs = φ_r φ_sᵀ,  K_ss = φ_s φ_sᵀ

    Where there are more synthetic images than features, the same is solved for the d weights
    instead, as then K_ss has no full rank, and float32 no digits left for it.

    Args:
      synthetic_features: `(n, d)`, differentiable.
      targets: `(n, classes)`, y, differentiable.
      real_features: `(m, d)`.
      ridge: λ.

    Returns:
      Predictions, float32 `(m, classes)`; zeros where the synthetic features are.

    Raises:
      ValueError: shapes that do not fit.

    References:
      Zhou et al., "Dataset Distillation using Neural Feature Regression" (2022), section 3.
    """
    shapes = (synthetic_features.shape, targets.shape, real_features.shape)
    if shapes[0][:1] != shapes[1][:1] or shapes[0][1:] != shapes[2][1:] or len(shapes[0]) != 2:
        raise ValueError(
            f"kernel_ridge_regression takes (n, d), (n, classes) and (m, d), not {shapes}"
        )
    arrays = (synthetic_features, real_features, targets)
    synthetic, real, targets = (a.astype(jnp.float32) for a in arrays)
    n, d = synthetic.shape
    with jax.default_matmul_precision("highest"):  # the ridge is a millionth of what it is added to
        kernel = synthetic @ synthetic.T if n <= d else synthetic.T @ synthetic
        kernel += (
            jnp.float32(ridge)
            * jnp.maximum(jnp.trace(kernel), _SMALLEST)
            / n
            * jnp.eye(min(n, d), dtype=kernel.dtype)
        )
        if n <= d:
            solved = jax.scipy.linalg.solve(kernel, targets, assume_a="pos")
            return (real @ synthetic.T) @ solved
        return real @ jax.scipy.linalg.solve(kernel, synthetic.T @ targets, assume_a="pos")
