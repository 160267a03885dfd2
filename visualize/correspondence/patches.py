"""Image patches of a folder: the nearest neighbors of one in feature space, and those that activate a channel most.

Nearest patches. Long, Zhang, Darrell: Do Convnets Learn Correspondence? NIPS 2014, arXiv:1411.1091, section 3: the
descriptor of a patch is the feature vector of a level at one position; its nearest neighbors over all positions of
other images are cropped at their receptive fields and averaged. The similarity is the cosine of the descriptors. The
descriptor of a single neuron is its activation, and the similarity the negative absolute difference; inactive
positions, which are all equal, are ignored. Every image contributes its best position only. All images are resized to
the same short side, copies of the query are ignored, and receptive fields are entirely inside the image.

Top activations. Zeiler, Fergus: Visualizing and Understanding Convolutional Networks. ECCV 2014, arXiv:1311.2901,
figure 2: for every image the most active unit of the channel, and over all images the strongest of these, cropped at
their receptive fields. Other objectives rank entire images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.result import Progress, Visualization

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..core.model import InspectedModel
    from ..core.objectives import Objective
    from .receptive_field import Window

CELL, TOP_CELL = 112, 160
"""Size of a patch in the grids of neighbors and of top activations, in pixels."""
SAME = 1.5 / 255
"""Images with a smaller mean absolute difference are copies of the query."""


class PatchMatch(NamedTuple):
    """The receptive field of one unit in an image.

    Attributes:
        path: image file; None for the query, which may not be a file.
        similarity: similarity to the query; that of the query itself is the maximum (1, or 0 for a neuron).
        unit: x and y in the level.
        window: receptive field, in pixels of the resized image.
        pixels: (h, w, 3) uint8.
    """

    path: Path | None
    similarity: float
    unit: tuple[int, int]
    window: Window
    pixels: np.ndarray


class Correspondence(NamedTuple):
    """A patch and its nearest neighbors, in order of decreasing similarity."""

    query: PatchMatch
    neighbors: list[PatchMatch]

    @property
    def average(self) -> np.ndarray:
        """Mean of the neighbors, (h, w, 3) uint8."""
        import numpy as np

        return np.round(np.mean([each.pixels for each in self.neighbors], axis=0)).astype(np.uint8)


def find_correspondences(
    model: InspectedModel,
    image: Any,
    images: Sequence[Path],
    level: str,
    points: Sequence[tuple[float, float]] = (),
    units: Sequence[tuple[int, int, int]] = (),
    count: int = 8,
    short_side: int = 256,
    progress: Progress | None = None,
) -> list[Correspondence]:
    """Nearest patches of several queries in one pass over the images, one result for each point, then for each unit.

    Arguments as in `nearest_patches`; `points` are (x, y) in pixels of the original image, of which the nearest unit
    inside the image is used, and `units` are neurons by channel, x and y in the level.
    """
    import numpy as np
    import torch

    from ...errors import UserError
    from ...tasks.image_io import load_image
    from ..core.images import preprocess_at_scale, to_uint8_image
    from .receptive_field import unit_fields

    if count < 1 or short_side < 1:
        raise UserError(f"--count {count} --short-side {short_side}: both must be at least 1.")
    fields = unit_fields(model, level)

    def run_level(source: Any) -> tuple[Tensor, Tensor, tuple[range, range]]:
        """Pixels (1, C, H, W), feature maps (N, h, w), and the rows and columns of units inside the image."""
        pixels = preprocess_at_scale(model, source, short_side)
        with torch.no_grad():
            maps = model.forward(pixels, (level,), run_output=False).levels[level][0].float()
        height, width = pixels[0].shape[-2:]
        return pixels[0], maps, fields.units_inside((maps.shape[-2], maps.shape[-1]), (height, width))

    query_pixels, maps, inside = run_level(image)
    if not all(inside):
        raise UserError(
            f"The receptive field of {level}, {fields.rows.size:g} x {fields.columns.size:g} pixels, is larger than "
            f"the image of {query_pixels.shape[-2]} x {query_pixels.shape[-1]}; give a larger --short-side or an "
            "earlier level."
        )
    source = load_image(image)
    queries: list[tuple[int | None, int, int]] = []
    for x, y in points:
        if not (0 <= x < source.shape[1] and 0 <= y < source.shape[0]):
            raise UserError(f"{x:g},{y:g} is outside of the image of {source.shape[1]} x {source.shape[0]} pixels.")
        scale_x, scale_y = query_pixels.shape[-1] / source.shape[1], query_pixels.shape[-2] / source.shape[0]
        at = (x + 0.5) * scale_x - 0.5, (y + 0.5) * scale_y - 0.5
        queries.append((None, *fields.nearest_unit(*at, inside)))
    queries += [validate_neuron(level, unit, maps, inside) for unit in units]

    query_image = to_uint8_image(query_pixels)
    results: list[Correspondence] = []
    for channel, x, y in queries:
        window = fields.window(x, y)
        results.append(
            Correspondence(PatchMatch(None, float(channel is None), (x, y), window, window.crop(query_image)), [])
        )
    for done, path in enumerate(images, 1):
        pixels, candidate_maps, inside_range = run_level(path)
        if progress is not None:
            progress(done, len(images), {})
        if not all(inside_range) or (
            pixels.shape == query_pixels.shape and float((pixels - query_pixels).abs().mean()) < SAME
        ):
            continue
        rows, columns = inside_range
        candidates = candidate_maps[:, rows.start : rows.stop, columns.start : columns.stop]
        for (channel, x, y), result in zip(queries, results, strict=True):
            similarities = similarity(candidates, maps[:, y, x], channel)
            row, column = divmod(int(similarities.argmax()), len(columns))
            value = float(similarities[row, column])
            if value == -np.inf or (len(result.neighbors) == count and value <= result.neighbors[-1].similarity):
                continue
            unit = columns[column], rows[row]
            window = fields.window(*unit)
            result.neighbors.append(PatchMatch(path, value, unit, window, window.crop(to_uint8_image(pixels))))
            result.neighbors.sort(key=lambda patch: -patch.similarity)
            del result.neighbors[count:]
    if not all(result.neighbors for result in results):
        raise UserError(
            f"None of the {len(images)} images has a patch to compare; give others, or a larger --short-side."
        )
    return results


def similarity(candidates: Tensor, descriptor: Tensor, channel: int | None) -> Tensor:
    """Similarity of all positions to a descriptor: (h, w) from (N, h, w) and (N,).

    The cosine; for a single channel the negative absolute difference, and -inf at inactive positions.
    """
    import torch
    from torch.nn import functional

    if channel is None:
        return functional.cosine_similarity(candidates, descriptor[:, None, None], dim=0)
    values = candidates[channel]
    return torch.where(values == 0, -torch.inf, -(values - descriptor[channel]).abs())


def validate_neuron(
    level: str, unit: tuple[int, int, int], maps: Tensor, inside: tuple[range, range]
) -> tuple[int, int, int]:
    """Check that a neuron (channel, x, y) is active and that its receptive field is inside the image."""
    from ...errors import UserError

    channel, x, y = unit
    rows, columns = inside
    if not 0 <= channel < len(maps):
        raise UserError(f"{level} has the channels 0 to {len(maps) - 1}, not {channel}.")
    if x not in columns or y not in rows:
        raise UserError(
            f"The receptive field of {level}:{channel}@{x},{y} extends beyond the image; x must be "
            f"{columns[0]} to {columns[-1]}, and y {rows[0]} to {rows[-1]}."
        )
    values = maps[channel]
    if not values[y, x]:
        candidates = values[rows.start : rows.stop, columns.start : columns.stop].abs()
        row, column = divmod(int(candidates.argmax()), len(columns))
        strongest = f"{level}:{channel}@{columns[column]},{rows[row]}"
        hint = (
            f"{strongest} is the most active one"
            if candidates.any()
            else "no other unit of this channel is; choose another channel"
        )
        raise UserError(f"{level}:{channel}@{x},{y} is not active on this image; {hint}.")
    return channel, x, y


def draw_correspondences(results: Sequence[Correspondence]) -> np.ndarray:
    """Grid, (H, W, 3) uint8, one row per query: the patch, its neighbors with their similarity, and their average."""
    from ...datasets.core.drawing import add_caption, fit_to_cell, image_grid

    max_neighbors = max(len(result.neighbors) for result in results)
    cells = []
    for result in results:
        row = [(result.query.pixels, "query"), *((each.pixels, f"{each.similarity:.3f}") for each in result.neighbors)]
        row += [(result.average, "average")]
        cells += [add_caption(fit_to_cell(pixels, (CELL, CELL)), caption) for pixels, caption in row]
        blank = add_caption(fit_to_cell(result.average * 0 + 255, (CELL, CELL)), "")
        cells += [blank] * (max_neighbors - len(result.neighbors))
    return image_grid(cells, max_neighbors + 2)


def nearest_patches(
    model: Any,
    image: Any,
    folder: Any,
    *,
    level: str | None = None,
    at: Sequence[Any] = (),
    target: Any = None,
    count: int = 8,
    short_side: int = 256,
    subset: int | None = None,
    progress: Progress | None = None,
) -> Visualization:
    """Draw the nearest neighbors of an image patch in feature space: query, neighbors, and their average.

    Args:
        model: see `inspect_model`.
        image: image of the query patch: a path, array, PIL image or tensor.
        folder: folder of images to search, including subfolders; or a list of files.
        level: level of the descriptors; required with `at`.
        at: points X,Y of the image, in its original pixels; one row each.
        target: a single unit (layer2:17@12,8) instead of points, compared by its activation.
        count: number of neighbors.
        short_side: short side, in pixels, to which all images are resized.
        subset: maximum number of images to search, evenly spaced over the folder; all if not stated.
        progress: called after every image.

    Returns:
        array: (queries, 1 + neighbors + 1, h, w, 3) uint8: query, neighbors and average.

    Raises:
        UserError: a point or unit outside of the image, an inactive unit, or images smaller than the receptive field.
    """
    import numpy as np

    from ...errors import UserError
    from ..core.images import images_in, one_image
    from ..core.model import inspect_model
    from ..core.objectives import Neuron
    from ..core.targets import resolve_target

    if (target is None) == (not at) or (level is None) == bool(at):
        raise UserError("Give either --level LEVEL --at X,Y for a patch, or --target LEVEL:CHANNEL@X,Y for a unit.")
    points = [parse_point(each) if isinstance(each, str) else (float(each[0]), float(each[1])) for each in at]
    query = one_image(image)
    own_path = Path(query).resolve() if isinstance(query, (str, Path)) else None
    images = [path for path in images_in(folder, subset) if path.resolve() != own_path]
    model = inspect_model(model)
    units = []
    if target is not None:
        unit = resolve_target(target, model)
        if not isinstance(unit, Neuron):
            raise UserError(f"'{target}' is not a single unit; write LEVEL:CHANNEL@X,Y.")
        level, units = unit.level, [(unit.index, unit.x, unit.y)]
    assert level is not None
    results = find_correspondences(model, query, images, level, points, units, count, short_side, progress)
    notes = []
    for result in results:
        (x, y), window = result.query.unit, ", ".join(map(str, result.query.window))
        notes.append(f"Unit {x},{y} of {level}, pixels {window}:")
        notes += [f"{each.similarity:9.4f}  {each.path}  {each.unit[0]},{each.unit[1]}" for each in result.neighbors]
    neighbor_count = min(len(result.neighbors) for result in results)
    rows = [
        [result.query.pixels, *(n.pixels for n in result.neighbors[:neighbor_count]), result.average]
        for result in results
    ]
    return Visualization(np.array(rows), draw_correspondences(results), tuple(notes))


def parse_point(text: str) -> tuple[float, float]:
    """Parse X,Y."""
    from ...errors import UserError

    try:
        x, y = map(float, text.split(","))
    except ValueError:
        raise UserError(f"'{text}' is not a point; write two numbers with a comma: 120,80.") from None
    return x, y


class TopActivation(NamedTuple):
    """An image with a high score.

    Attributes:
        path: image file.
        value: score of the objective.
        image: (H, W, 3) uint8, the model input.
        window: receptive field of the unit, clipped to the image; the entire image for other objectives.
    """

    path: Path
    value: float
    image: np.ndarray
    window: Window

    @property
    def patch(self) -> np.ndarray:
        """The image cropped to the window, (h, w, 3) uint8."""
        return self.window.crop(self.image)


def rank_images(
    model: InspectedModel,
    images: Sequence[Path],
    objective: Objective,
    count: int = 9,
    progress: Progress | None = None,
) -> list[TopActivation]:
    """Images with the highest scores, in descending order; ties keep the order of the input.

    Arguments as in `top_activations`. A neuron has a fixed position; pixels are those of each original image.
    """
    import torch

    from ...errors import UserError
    from ..core.images import to_uint8_image
    from ..core.objectives import Channel, Neuron, evaluate_objective
    from .receptive_field import Window, unit_fields

    if count < 1:
        raise UserError(f"--count is {count}; it must be at least 1.")
    fields = unit_fields(model, objective.level) if isinstance(objective, Channel) else None
    best: list[TopActivation] = []
    for done, path in enumerate(images, 1):
        model_input = model.preprocess(path)
        pixels = model_input.pixels
        with torch.no_grad():
            score, result = evaluate_objective(model, pixels, objective.on_image(model_input))
            value, x, y = float(score), 0, 0
            if isinstance(objective, Channel):
                channel = objective.activation_map(result)[0]
                x, y = (
                    (objective.x, objective.y)
                    if isinstance(objective, Neuron)
                    else divmod(int(channel.argmax()), channel.shape[-1])[::-1]
                )
                value = float(channel[y, x])
        image = to_uint8_image(pixels[0])
        window = fields.window(x, y) if fields else Window(0, 0, image.shape[1], image.shape[0])
        best.append(TopActivation(path, value, image, window.clip((image.shape[0], image.shape[1]))))
        best = sorted(best, key=lambda each: -each.value)[:count]
        if progress is not None:
            progress(done, len(images), {})
    if isinstance(objective, Channel):
        best = [each for each in best if each.value > 0]
        if not best:
            raise UserError(
                f"None of the {len(images)} images activates {objective}; choose another channel or folder."
            )
    return best


def draw_top_activations(results: Sequence[TopActivation]) -> np.ndarray:
    """Grid of the patches, (H, W, 3) uint8, with their scores."""
    import math

    from ...datasets.core.drawing import add_caption, fit_to_cell, image_grid

    cells = [add_caption(fit_to_cell(each.patch, (TOP_CELL, TOP_CELL)), f"{each.value:.4g}") for each in results]
    return image_grid(cells, math.ceil(math.sqrt(len(cells))))


def top_activations(
    model: Any,
    folder: Any,
    target: Any,
    *,
    count: int = 9,
    subset: int | None = None,
    progress: Progress | None = None,
) -> Visualization:
    """Draw the patches of a folder of images that activate a channel most, cropped at the receptive field.

    Args:
        model: see `inspect_model`.
        folder: folder of images, including subfolders; or a list of files.
        target: channel (layer3:17, its most active unit), unit (layer3:17@12,8), or any other target for entire images.
        count: number of patches.
        subset: maximum number of images to search, evenly spaced over the folder; all if not stated.
        progress: called after every image.

    Returns:
        array: (N,) float32, the scores in descending order.

    Raises:
        UserError: no image activates the unit, or a file is not an image.
    """
    import numpy as np

    from ..core.images import images_in
    from ..core.model import inspect_model
    from ..core.targets import resolve_target

    images, model = images_in(folder, subset), inspect_model(model)
    results = rank_images(model, images, resolve_target(target, model), count, progress)
    values = np.array([each.value for each in results], np.float32)
    notes = tuple(f"{each.value:10.4g}  {each.path}" for each in results)
    return Visualization(values, draw_top_activations(results), notes)
