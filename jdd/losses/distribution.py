"""Distribution matching (DM)."""

import jax
import jax.numpy as jnp


def distribution_matching(synthetic_features: jax.Array, real_features: jax.Array) -> jax.Array:
    """Squared distance between the mean features of synthetic and of real images:

        ‖(1/m) Σⱼ real_featuresⱼ − (1/n) Σᵢ synthetic_featuresᵢ‖²

    Match one class at a time and sum: the mean over all classes says nothing about any of them. It
    is a sum over the d features, not a mean, so image learning rates are large.

    Args:
      synthetic_features: `(n, d)`, differentiable.
      real_features: `(m, d)`.

    Returns:
      The loss, a float32 scalar.

    Raises:
      ValueError: the features differ in length; flatten maps first (`method="embed"` does).

    References:
      Zhao and Bilen, "Dataset Condensation with Distribution Matching" (2023).
    """
    if synthetic_features.ndim != 2 or synthetic_features.shape[1:] != real_features.shape[1:]:
        raise ValueError(
            "distribution_matching takes (n, d) and (m, d), not "
            f"{synthetic_features.shape} and {real_features.shape}"
        )
    synthetic_mean = jnp.mean(synthetic_features.astype(jnp.float32), axis=0)
    real_mean = jnp.mean(real_features.astype(jnp.float32), axis=0)
    return jnp.sum(jnp.square(real_mean - synthetic_mean))
