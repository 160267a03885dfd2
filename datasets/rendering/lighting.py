"""Shading of a ray-cast room: surfaces, lamps with soft shadows, bounced light, exposure, sensor.

Everything is linear light until `develop`. Geometry is never touched here: the depth map is cast at pixel centers, and
only the color of pixels on an outline is averaged over four rays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import cv2
import numpy as np

from .materials import Material
from .raycast import BOX, CYLINDER, Camera, Solids, cast, look, recast, room_exit
from .textures import lookup

SHADOW_SIZE = 160  # pixels on a side of a shadow map
SHADOW_REACH = 2.4  # tangent of half its field of view
SHADOW_BIAS = 0.06  # meters
SHADOW_TAPS = ((-1.6, -0.6), (-0.6, 1.6), (0.6, -1.6), (1.6, 0.6), (-0.5, -0.3), (0.3, -0.5), (-0.3, 0.5), (0.5, 0.3))
CONTACT_CELL = 0.08  # meters
EDGE_RAYS = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))


@dataclass(frozen=True)
class Light:
    """A lamp or window.

    Args:
        position: (3,) meters.
        yaw, pitch: where it faces, in radians; solids outside its wide field of view cast no shadow.
        color: (3,) irradiance at one meter.
        flat: shines like a pane, by the cosine of the angle to its facing, rather than to all sides.
    """

    position: np.ndarray
    yaw: float
    pitch: float
    color: np.ndarray
    flat: bool


@dataclass(frozen=True)
class Scene:
    """A furnished room from the origin to `size`, seen from inside.

    Args:
        size: (3,) meters.
        solids: the P parts of its furniture.
        faces: (P + 1, 6) number of the material of every face, -x +x -y +y -z +z; the last row is the room.
        casts_shadow: (P,) bool.
        materials: what the numbers in `faces` mean.
        lights: lamps and windows.
        ambient: (2, 3) light from above and from below that has bounced so often that it comes from everywhere.
    """

    size: np.ndarray
    solids: Solids
    faces: np.ndarray
    casts_shadow: np.ndarray
    materials: Sequence[Material]
    lights: Sequence[Light]
    ambient: np.ndarray

    def see(self, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """Depth (H * W,) float32 meters and solid (H * W,) at pixel centers; solid -1 is the room itself."""
        depth, solid = cast(camera, self.solids)
        room = room_exit(camera, self.size, *camera.pixels())
        return np.minimum(depth, room), np.where(depth < room, solid, -1)

    @cached_property
    def bodies(self) -> Solids:
        """The furniture, and behind it, as index P or -1, the room as a hollow box."""
        one, half = np.zeros(1), self.size[None] / 2
        parts = self.solids
        return Solids(
            np.append(parts.kind, BOX),
            np.concatenate([parts.center, half]),
            np.concatenate([parts.half, half]),
            np.append(parts.yaw, one),
        )

    @cached_property
    def face_normals(self) -> np.ndarray:
        """(3, (P + 1) * 6) float32, outwards for furniture, inwards for the room."""
        normals = np.stack([-self.bodies.own_axes, self.bodies.own_axes], axis=2)
        normals[-1] *= -1
        return np.ascontiguousarray(normals.reshape(-1, 3).T, np.float32)

    @cached_property
    def face_textures(self) -> tuple[np.ndarray, np.ndarray]:
        """Tiles per meter and the shift in tiles, along u and v: (2, (P + 1) * 6) float32 each."""
        along = np.array([[1, 1, 0, 0, 0, 0], [2, 2, 2, 2, 1, 1]])
        tile = np.array([material.tile for material in self.materials])[self.faces]
        stretched = tile == 0
        half = self.bodies.half[:, along].transpose(1, 0, 2)
        scale = np.where(stretched, 0.5 / half, 1 / np.where(stretched, 1, tile))
        shift = self.bodies.center[:, along].transpose(1, 0, 2) * 7.3  # no two pieces show the same plank
        return (
            scale.reshape(2, -1).astype(np.float32),
            np.where(stretched, 0.5, shift).reshape(2, -1).astype(np.float32),
        )

    @cached_property
    def palette(self) -> np.ndarray:
        """(11, materials) float32: first color, second and third minus the first, emission, gloss."""
        colors = np.array([m[1:4] for m in self.materials], np.float32).transpose(1, 2, 0)
        shine = np.array([[m.emission, m.gloss] for m in self.materials], np.float32).T
        return np.concatenate([colors[0], colors[1] - colors[0], colors[2] - colors[0], shine])


@dataclass(frozen=True)
class Surface:
    """Q visible points: where they are (3, Q), which way they face (3, Q), and where on their texture (2, Q)."""

    point: np.ndarray
    face: np.ndarray
    normal: np.ndarray
    texture_position: np.ndarray


def surface(scene: Scene, point: np.ndarray, solid: np.ndarray) -> Surface:
    """The surface at `point` (3, Q) of `solid` (Q,), -1 for the room."""
    bodies = scene.bodies
    turn = bodies.own_axes.astype(np.float32)
    x, y, z = point - bodies.center.T.astype(np.float32).take(solid, axis=1)
    cosine, sine = turn[:, 0, 0].take(solid), turn[:, 0, 1].take(solid)
    own = np.stack([x * cosine + y * sine, y * cosine - x * sine, z])
    unit = own * (1 / bodies.half.T).astype(np.float32).take(solid, axis=1)

    steep = np.abs(unit)
    facing_z = (steep[2] >= steep[0]) & (steep[2] >= steep[1])
    facing_x = (steep[0] > steep[1]) & ~facing_z
    axis = np.where(facing_x, 0, np.where(facing_z, 2, 1))
    positive = np.where(facing_x, unit[0], np.where(facing_z, unit[2], unit[1])) > 0
    face = (solid % len(bodies)) * 6 + 2 * axis + positive
    normal = scene.face_normals.take(face, axis=1)
    position = np.stack([np.where(facing_x, own[1], own[0]), np.where(facing_z, own[1], own[2])])
    scale, shift = scene.face_textures
    position = position * scale.take(face, axis=1) + shift.take(face, axis=1)

    curved = np.flatnonzero(bodies.kind[solid] != BOX)
    if len(curved):
        owner = solid[curved]
        gradient = unit[:, curved] / bodies.half.T.astype(np.float32).take(owner, axis=1)
        cylinder = bodies.kind[owner] == CYLINDER
        lid = cylinder & (steep[2, curved] > np.hypot(unit[0, curved], unit[1, curved]))
        gradient[2, cylinder & ~lid] = 0
        gradient[:2, lid] = 0
        gradient /= np.sqrt((gradient * gradient).sum(0))
        c, s = cosine[curved], sine[curved]
        normal[:, curved] = gradient[0] * c - gradient[1] * s, gradient[0] * s + gradient[1] * c, gradient[2]
    return Surface(point, face, normal, position)


def radiance(scene: Scene, camera: Camera, seen: Surface, depth: np.ndarray, shade: Shade) -> np.ndarray:
    """Linear light (3, Q) that the camera receives from the visible points."""
    view = seen.point - camera.position.astype(np.float32)[:, None]
    view /= np.sqrt((view * view).sum(0))
    facing = np.abs((view * seen.normal).sum(0))
    footprint = depth / np.float32(camera.focal) / np.sqrt(np.maximum(facing, np.float32(0.02)))
    scale = scene.face_textures[0].max(0).take(seen.face)
    material = scene.faces.ravel().take(seen.face)
    textures = np.array([m.texture for m in scene.materials], np.int32).take(material)
    tile_u, tile_v = seen.texture_position
    second, third = lookup(textures, tile_u, tile_v, footprint * scale)
    palette = scene.palette
    albedo = palette[0:3].take(material, axis=1)
    albedo += palette[3:6].take(material, axis=1) * second
    albedo += palette[6:9].take(material, axis=1) * third
    falling, glint = shade.light(seen, view)
    return albedo * (falling + palette[9].take(material)) + palette[10].take(material) * glint


class Shade:
    """Lighting of a scene; shadow maps are computed once and looked up for every point."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        occluders = scene.solids.subset(scene.casts_shadow)
        self.maps = []
        for light in scene.lights:
            focal = (SHADOW_SIZE / 2) / SHADOW_REACH
            camera = Camera(light.position, look(light.yaw, light.pitch), focal, SHADOW_SIZE, SHADOW_SIZE)
            self.maps.append((light, camera, cast(camera, occluders)[0]))
        self.contact = _contact_map(scene)

    def light(self, seen: Surface, view: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Irradiance (3, Q), bounced light included, and the highlights (Q,) that a glossy surface shows.

        Args:
            view: (3, Q) unit direction from the camera to the points.
        """
        up = np.float32(0.5) + np.float32(0.5) * seen.normal[2]
        above, below = self.scene.ambient.astype(np.float32)[:, :, None]
        bounced = (below + (above - below) * up) * self._openness(seen)
        direct, glint, open_sky = np.zeros_like(bounced), np.zeros_like(up), np.zeros_like(up)
        for light, camera, shadow_map in self.maps:
            way = light.position.astype(np.float32)[:, None] - seen.point
            squared = (way * way).sum(0)
            way /= np.sqrt(squared)
            visible = _visibility(camera, shadow_map, seen.point)
            arriving = visible / (squared + np.float32(0.4))
            if light.flat:
                arriving *= np.maximum(-(way * camera.axes[:, 2:].astype(np.float32)).sum(0), 0)
            incidence = np.maximum((way * seen.normal).sum(0), 0)
            direct += light.color.astype(np.float32)[:, None] * (arriving * incidence)
            halfway = way - view
            lobe = (halfway * seen.normal).sum(0) / np.sqrt((halfway * halfway).sum(0))
            for _ in range(5):  # Blinn's highlight with exponent 32
                lobe *= lobe
            glint += np.float32(light.color[1]) * arriving * lobe * (incidence > 0)
            open_sky += visible
        if self.maps:  # what hides a lamp hides part of the bounced light as well
            bounced *= np.float32(0.5) + np.float32(0.5 / len(self.maps)) * open_sky
        return direct + bounced, glint

    def _openness(self, seen: Surface) -> np.ndarray:
        """Share of the bounced light that arrives (Q,): less in corners and where furniture meets the floor."""
        size = self.scene.size.astype(np.float32)[:, None]
        ahead = seen.point + np.float32(0.12) * seen.normal
        gap = np.clip(np.minimum(ahead, size - ahead), 0, None)
        openness = (gap / (gap + np.float32(0.07))).prod(0)
        column, row = (ahead[:2] / np.float32(CONTACT_CELL)).astype(np.int32)
        rows, columns = self.contact.shape
        cell = np.clip(row, 0, rows - 1) * columns + np.clip(column, 0, columns - 1)
        low = np.clip(1 - seen.point[2] / np.float32(0.35), 0, 1)
        low *= (seen.point[2] < 0.03) | (np.abs(seen.normal[2]) < 0.5)
        return openness * (1 - np.float32(0.8) * low * self.contact.ravel().take(cell))


def _contact_map(scene: Scene) -> np.ndarray:
    """Blurred footprints of what stands on the floor, (rows along y, columns along x) float32 in [0, 1]."""
    columns, rows = np.ceil(scene.size[:2] / CONTACT_CELL).astype(int)
    footprint = np.zeros((rows, columns), np.float32)
    solids = scene.solids
    standing = (solids.center[:, 2] - solids.half[:, 2] < 0.2) & scene.casts_shadow
    outline = solids.corners()[:, [0, 2, 6, 4], :2] / CONTACT_CELL * 16
    for polygon in outline[standing].round().astype(np.int32):
        cv2.fillConvexPoly(footprint, polygon, 1.0, shift=4)
    return cv2.GaussianBlur(footprint, (0, 0), 1.6)


def _visibility(camera: Camera, shadow_map: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Share of a light that reaches the points (Q,): the shadow map is sampled at a few positions around each."""
    x, y, z = camera.axes.T.astype(np.float32) @ (point - camera.position.astype(np.float32)[:, None])
    inside = z > 0.05
    scale = np.float32(camera.focal) / np.where(inside, z, 1)
    center = np.float32(SHADOW_SIZE / 2)  # half a pixel more than the principal point: truncation then rounds
    u, v = x * scale + center, y * scale + center
    margin = np.float32(2)
    inside &= (np.minimum(u, v) > margin) & (np.maximum(u, v) < SHADOW_SIZE - margin)
    u, v = np.where(inside, u, margin), np.where(inside, v, margin)
    reach = z - np.float32(SHADOW_BIAS)
    blocked = np.zeros(len(z), np.float32)
    for du, dv in SHADOW_TAPS:
        pixel = (v + np.float32(dv)).astype(np.int32) * SHADOW_SIZE + (u + np.float32(du)).astype(np.int32)
        blocked += shadow_map.take(pixel) < reach
    return 1 - inside * blocked / np.float32(len(SHADOW_TAPS))


def photo(scene: Scene, camera: Camera, exposure: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, W) float32 meters at pixel centers, and display-linear color (H, W, 3) float32 in [0, 1].

    `exposure` is the mean brightness that the camera aims at.
    """
    (depth, image), *_ = photos(scene, [camera], exposure)
    return depth, image


def photos(scene: Scene, cameras: Sequence[Camera], exposure: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """`photo` from several places; the first camera decides the exposure of all."""
    shade, gain, taken = Shade(scene), None, []
    for camera in cameras:
        depth, solid = scene.see(camera)
        u, v = camera.pixels()
        seen = surface(scene, camera.points(u, v, depth), solid)
        light = radiance(scene, camera, seen, depth, shade)
        if gain is None:
            gain = np.float32(exposure / np.minimum(light, 1.5 * light.mean()).mean())
        image = _tone_map(light * gain)

        edge, edge_u, edge_v, candidates = _outline(camera, solid, seen.face)
        edge_depth, edge_solid = recast(camera, scene.solids, edge_u, edge_v, candidates)
        room = room_exit(camera, scene.size, edge_u, edge_v)
        edge_solid = np.where(edge_depth < room, edge_solid, -1)
        edge_depth = np.minimum(edge_depth, room)
        seen = surface(scene, camera.points(edge_u, edge_v, edge_depth), edge_solid)
        colors = _tone_map(radiance(scene, camera, seen, edge_depth, shade) * gain)
        image[:, edge] = colors.reshape(3, len(EDGE_RAYS), len(edge)).mean(1)

        shape = (camera.height, camera.width)
        taken.append((depth.reshape(shape), np.ascontiguousarray(image.T).reshape(*shape, 3)))
    return taken


def _tone_map(light: np.ndarray) -> np.ndarray:
    """Highlights roll off instead of clipping, so that an averaged outline of a bright window stays smooth."""
    return 1 - np.exp(-light)


def _outline(
    camera: Camera, solid: np.ndarray, face: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixels (E,) on an outline, the positions u, v (4E,) of their four rays, and what those may hit (4E, 3).

    A ray in a corner of a pixel may hit what the pixel's center sees, or what its two neighbors on that side see.
    """
    shape = (camera.height, camera.width)
    number = face.reshape(shape)
    across, down = number[:, 1:] != number[:, :-1], number[1:] != number[:-1]
    outline = np.zeros(shape, bool)
    outline[:, 1:] |= across
    outline[:, :-1] |= across
    outline[1:] |= down
    outline[:-1] |= down
    edge = np.flatnonzero(outline)
    row, column = np.divmod(edge, camera.width)
    us, vs, candidates = [], [], []
    for du, dv in EDGE_RAYS:
        beside = np.clip(column + (1 if du > 0 else -1), 0, camera.width - 1)
        above = np.clip(row + (1 if dv > 0 else -1), 0, camera.height - 1)
        us.append(column + np.float32(du))
        vs.append(row + np.float32(dv))
        neighbors = (edge, row * camera.width + beside, above * camera.width + column)
        candidates.append(np.stack([solid[pixel] for pixel in neighbors], axis=1))
    return edge, np.concatenate(us, dtype=np.float32), np.concatenate(vs, dtype=np.float32), np.concatenate(candidates)


@cache
def _srgb_curve() -> np.ndarray:
    """sRGB in [0, 1] of 4096 steps of linear light."""
    light = np.linspace(0, 1, 4096)
    return np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def develop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The sensor's image (H, W, 3) uint8 sRGB of display-linear light: white balance, lens, tone, noise."""
    balance = rng.uniform(0.92, 1.08, 3).astype(np.float32)
    blur, noise, vignette = rng.uniform(0.0, 0.55), rng.uniform(0.5, 3.5), rng.uniform(0.0, 0.3)
    contrast, black = rng.uniform(0.9, 1.2), rng.uniform(0.0, 0.03)
    height, width = image.shape[:2]
    column, row = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    falloff = 1 - np.float32(vignette / 2) * (column**2 + row[:, None] ** 2)
    light = image * (falloff[..., None] * balance)
    if blur > 0.3:
        light = cv2.GaussianBlur(light, (3, 3), blur)
    return _encoded(light, contrast, black, noise, rng)


def develop_views(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`develop` of several images (N, H, W, 3) with one white balance and tone, without a lens, each with its noise."""
    balance = rng.uniform(0.92, 1.08, 3).astype(np.float32)
    noise, contrast, black = rng.uniform(0.5, 2.0), rng.uniform(0.9, 1.2), rng.uniform(0.0, 0.03)
    return _encoded(images * balance, contrast, black, noise, rng)


def _encoded(light: np.ndarray, contrast: float, black: float, noise: float, rng: np.random.Generator) -> np.ndarray:
    curve = (255 * (black + (1 - black) * _srgb_curve() ** contrast)).astype(np.float32)
    encoded = curve.take((light * np.float32(4095)).astype(np.int32), mode="clip")
    encoded += rng.standard_normal(encoded.shape, np.float32) * np.float32(noise)
    return np.clip(encoded + np.float32(0.5), 0, 255).astype(np.uint8)
