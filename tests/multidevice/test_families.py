"""One train step of every family on every shape of mesh: the numbers of one device, and the communication expected."""

import math
import re

import pytest

from tests.multidevice import processes
from tests.multidevice.families import DIM, EXAMPLES, FAMILIES, LENGTH, MESHES
from tx_jax import tree
from tx_jax.models import registry

ONE, *OTHERS = MESHES


def test_a_step_of_bert_on_every_mesh():
    check_steps("BERT", OTHERS)


@pytest.mark.long
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "BERT"])
def test_a_step_of_the_other_families(family):
    check_steps(family, OTHERS)


def check_steps(family, names):
    result = processes.run("tests.multidevice.sharded", family, ONE, *names)
    meshes = result["meshes"]
    # The step moves every parameter but the keys' biases, whose gradient is 0: softmax does not see them.
    assert [path for path in result["still"] if not path.endswith("attention/key/bias")] == []
    for name, values in meshes.items():
        # Sums of at most 384 rows in another order, in float32: 1e-7 to 1e-6 of the largest element.
        assert values["loss"] == pytest.approx(meshes["one"]["loss"], rel=2e-6), name
        assert values["gradients"] < 1e-5, name
        assert values["params"] < 1e-5, name

    model = FAMILIES[family]
    shapes = {path: leaf.shape for path, leaf in tree.flatten(registry.param_shapes(model)).items()}
    assert meshes["one"]["collectives"] == []
    sizes = {math.prod(shape) for shape in shapes.values()}
    if "embeddings/position/embedding" in shapes:
        width = shapes["embeddings/position/embedding"][1]
        sizes.add(LENGTH * width)  # the rows of the positions that there are
    if model.relative_attention:
        sizes.add(2 * LENGTH * DIM)  # a row for each distance, of which the table gets its gradient
    checks = {
        "data": lambda found: check_data(found, sizes),
        "fsdp": lambda found: check_fsdp(found, shapes, sizes),
        "tensor": lambda found: check_tensor(found, shapes, model, chunks="chunks" in family),
        "data x context": lambda found: check_context(found, shapes, model),
    }
    for name in checks.keys() & meshes.keys():
        checks[name](meshes[name]["collectives"])
    if "data" in meshes:
        # Each gradient is summed over the devices once, also that of a table with two uses, not for every chunk.
        table = math.prod(shapes["embeddings/token/embedding"])
        assert moved(meshes["data"]["collectives"], "all-reduce").count(table) == 1
        if not model.enhanced_mask_decoder:  # whose last layer has three uses
            assert meshes["data"]["reduced"] <= 1.1 * 4 * sum(map(math.prod, shapes.values())) + 1000


def moved(collectives, *kinds):
    """The numbers of elements of all floating-point arrays that collectives of these kinds make."""
    return [
        math.prod(shape)
        for kind, arrays, _ in collectives
        if kind in kinds
        for dtype, shape in arrays
        if dtype.startswith("f")
    ]


def kinds(collectives):
    return {kind for kind, _, _ in collectives}


def count(shapes, pattern):
    return sum(bool(re.search(pattern, path)) for path in shapes)


def check_data(collectives, sizes):
    """Gradients are summed, and nothing else is."""
    assert kinds(collectives) == {"all-reduce"}
    assert set(moved(collectives, "all-reduce")) <= {1} | sizes


def check_fsdp(collectives, shapes, sizes):
    """Parameters are gathered, and their gradients scattered, which XLA's CPU backend does by summing and slicing.

    Where XLA gathers or exchanges activations instead, some of these arrays have no parameter's size.
    """
    assert kinds(collectives) <= {"all-gather", "all-reduce", "reduce-scatter"}
    gathered = moved(collectives, "all-gather")
    assert set(gathered) <= sizes
    assert len(gathered) >= sum(len(shape) > 1 for shape in shapes.values())
    assert set(moved(collectives, "all-reduce")) <= {1} | sizes


def check_tensor(collectives, shapes, model, chunks):
    """Activations are summed behind the kernels that are split by rows, their gradients behind those by columns.

    As in Megatron (Shoeybi et al. 2019, figure 4) that is twice in each pass for a layer of attention and MLP. The rest
    is small: the halves of a softmax and an argmax over a vocabulary that is split.
    """
    assert kinds(collectives) <= {"all-gather", "all-reduce"}
    activation = EXAMPLES * LENGTH * DIM
    assert all(size < activation / DIM * 8 for size in moved(collectives, "all-gather"))
    if not model.enhanced_mask_decoder:  # whose last layer runs three times
        rows = count(shapes, r"(attention/out|mlp/wo)/kernel$")
        inputs = rows + count(shapes, r"cross_attention/out/kernel$")  # a layer's own, and the encoder's output
        lookups = (model.table_dim == DIM) * (2 if model.architecture == "encoder_decoder" else 1)
        ends = lookups + ("causal_lm" in model.heads and not chunks)  # the gradient of the output layer's input
        assert moved(collectives, "all-reduce").count(activation) == rows + inputs + ends


def check_context(collectives, shapes, model):
    """Keys and values are gathered, and no other activation."""
    activation = EXAMPLES // 2 * LENGTH * DIM
    gathered = moved(collectives, "all-gather")
    assert max(gathered) == activation
    layers = count(shapes, r"attention/(key|value)/kernel$")
    again = 4 if model.enhanced_mask_decoder else 0  # its last layer runs three times, in part on the same keys
    assert layers <= gathered.count(activation) <= layers + again
    others = kinds(collectives) - {"all-gather", "all-reduce", "reduce-scatter"}
    assert others <= ({"collective-permute"} if model.conv_kernel else set())  # which needs its neighbors
