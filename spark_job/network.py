"""Keras' MobileNetV2, of which artefacts are made; the other engines must equal it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_job.errors import JobError
from spark_job.schema import FEATURES

if TYPE_CHECKING:
    import keras


def build_network(side_px: int, classes: int = 0) -> keras.Model:
    """MobileNetV2 of alpha 1.0 without weights: its features, or with classes its top."""
    from keras.applications import MobileNetV2

    if classes:
        return MobileNetV2(weights=None, classes=classes, input_shape=(side_px, side_px, 3))
    return MobileNetV2(
        include_top=False, weights=None, pooling="avg", input_shape=(side_px, side_px, 3)
    )


def load_network(weights_file: Path, side_px: int) -> keras.Model:
    """Keras' MobileNetV2 of alpha 1.0 with these weights: (n, side, side, 3) in -1..1 to (n, 1280).

    Raises JobError (2) where the file holds another network's weights or none.
    """
    import keras

    try:
        classes = _classes(weights_file)
        network = build_network(side_px, classes)
        network.load_weights(weights_file)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise JobError(
            2,
            f"{weights_file} does not hold the weights of a MobileNetV2 of alpha 1.0.",
            hint=f"Keras says: {str(error).splitlines()[0][:300]}",
        ) from error
    if classes:
        return keras.Model(network.input, network.layers[-2].output)
    return network


def _classes(weights_file: Path) -> int:
    """The number of classes of the top that the file holds, 0 where it holds none."""
    import h5py

    found = [0]

    def look(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.ndim == 2 and node.shape[0] == FEATURES:
            found.append(int(node.shape[1]))

    with h5py.File(weights_file) as file:
        file.visititems(look)
    return max(found)
