"""Counts against counts by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jdd import networks
from jdd.benchmarks import cases
from jdd.benchmarks.cases import Case
from jdd.benchmarks.flops import product_flops

A = jax.ShapeDtypeStruct((3, 4), jnp.float32)
B = jax.ShapeDtypeStruct((4, 5), jnp.float32)
SQUARE = jax.ShapeDtypeStruct((4, 4), jnp.float32)
CUBE = 2 * 4**3


def test_a_matrix_product():
    assert product_flops(jnp.matmul, A, B) == 2 * 3 * 4 * 5
    assert product_flops(jax.jit(jnp.matmul), A, B) == 2 * 3 * 4 * 5
    xla = jax.jit(jnp.matmul).lower(A, B).cost_analysis()
    assert product_flops(jnp.matmul, A, B) == xla["flops"]
    batch = [jax.ShapeDtypeStruct((7, *v.shape), v.dtype) for v in (A, B)]
    assert product_flops(jnp.matmul, *batch) == 7 * 2 * 3 * 4 * 5


@pytest.mark.parametrize("groups", [1, 4])
def test_a_convolution_and_its_gradients(groups):
    def convolution(x, w):
        return lax.conv_general_dilated(
            x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )  # fmt: skip

    x = jax.ShapeDtypeStruct((2, 8, 8, 8), jnp.float32)
    w = jax.ShapeDtypeStruct((3, 3, 8 // groups, 16), jnp.float32)
    by_hand = 2 * 2 * 4 * 4 * 16 * 3 * 3 * 8 // groups
    assert product_flops(convolution, x, w) == by_hand
    for argument in (0, 1):
        gradient = jax.grad(lambda *v: jnp.sum(convolution(*v)), argument)
        assert product_flops(gradient, x, w) == by_hand


def test_loops_count_as_often_as_they_are_run():
    def five_times(a):
        return lax.scan(lambda c, _: (c @ a, None), a, None, length=5)[0]

    assert product_flops(five_times, SQUARE) == 5 * CUBE
    assert product_flops(lambda a: lax.map(lambda row: five_times(a), a), SQUARE) == 20 * CUBE

    def n_times(a, n):
        return lax.fori_loop(0, n, lambda _, c: c @ a, a)

    assert product_flops(n_times, SQUARE, 3, turns=6) == 6 * CUBE
    with pytest.raises(ValueError, match="say how many turns"):
        product_flops(n_times, SQUARE, 3)
    assert product_flops(lambda a, n: lax.fori_loop(0, n, lambda _, c: c + a, a), SQUARE, 3) == 0


def test_the_most_expensive_branch_counts():
    branches = [lambda a: a, lambda a: a @ a @ a, lambda a: a @ a]
    assert product_flops(lambda i, a: lax.switch(i, branches, a), 1, SQUARE) == 2 * CUBE


def test_what_nothing_depends_on_does_not_count():
    def step(carry, _):
        return carry @ carry, carry @ carry.T

    assert product_flops(lambda a: lax.scan(step, a, None, length=3)[0], SQUARE) == 3 * CUBE
    assert product_flops(lambda a: lax.scan(step, a, None, length=3), SQUARE) == 6 * CUBE

    def both(n, a):  # a product for nothing in a loop of unknown length
        return lax.fori_loop(0, n, lambda _, c: lax.scan(step, c, None, length=3)[0], a)

    assert product_flops(both, 2, SQUARE, turns=2) == 6 * CUBE


def forward(side, channels, width, blocks=3):
    """Of one image: the convolutions of a ConvNet, layer by layer, and the classifier."""
    layers = [
        2 * (side // 2**block) ** 2 * 9 * (channels if block == 0 else width) * width
        for block in range(blocks)
    ]
    return [*layers, 2 * (side // 2**blocks) ** 2 * width * 10]


def test_a_network_and_its_gradient():
    network = networks.create("ConvNet", 10, width=8)
    images = jax.ShapeDtypeStruct((4, 28, 28, 1), jnp.float32)  # padded to 32×32
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    one = forward(32, 1, 8)
    assert product_flops(network.apply, variables, images) == 4 * sum(one)

    def loss(variables, images):
        return jnp.sum(network.apply(variables, images) ** 2)

    # Forward, kernel gradients, and image gradients of all but the first layer.
    expected = 4 * (3 * sum(one) - one[0])
    assert product_flops(jax.grad(loss), variables, images) == expected


def test_an_update_of_trajectory_matching():
    case = Case("mtt", "digits", 1, syn_steps=3, augmented=False)
    step = cases.step(cases.problem(case, width=4, stored=1))
    whole, (first, *_) = sum(forward(8, 1, 4)), forward(8, 1, 4)
    forwards = 3 * whole - first
    # With a tangent of all weights a product becomes two beside itself, one where the other factor
    # has no tangent: images at the first layer. Forward 3 F − F₁; gradients to what each layer
    # sees, of which the images' is no part of the primal, 3 F − F₁; of the gradients to the weights
    # only the tangents, 2 F − F₁.
    backwards = 8 * whole - 3 * first
    assert product_flops(step.function, *step.arguments) == 10 * 3 * (forwards + backwards)


def test_steps_of_the_benchmark():
    train = cases.step(cases.problem(Case("train", "digits", batch=20), width=4))
    one = forward(8, 1, 4)
    counted = product_flops(train.function, *train.arguments, turns=train.turns)
    assert counted == 20 * (3 * sum(one) - one[0])

    test = cases.step(cases.problem(Case("test", "digits", batch=500), width=4))
    assert product_flops(test.function, *test.arguments) == 500 * sum(one)

    dm = Case("dm", "digits", 3, 7, augmented=False)
    step = cases.step(cases.problem(dm, width=4, stored=9))
    features = sum(one) - one[-1]
    # Real images: forward; synthetic ones: forward and the gradient to the images.
    expected = 10 * (7 * features + 3 * 2 * features)
    assert product_flops(step.function, *step.arguments) == expected

    dc = Case("dc", "digits", 3, 7)
    step = cases.step(cases.problem(dc, width=4, stored=9))
    gradient = 3 * sum(one) - one[0]
    # Gradients of both, then a tangent of the synthetic images' gradient to the images: forward
    # and backward once more, each product but the first layer's with two tangents.
    tangent = 6 * sum(one) - 2 * one[0]
    expected = 10 * (7 * gradient + 3 * (gradient + tangent))
    assert product_flops(step.function, *step.arguments, turns=step.turns) == expected
