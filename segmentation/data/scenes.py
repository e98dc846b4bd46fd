"""Drawn street scenes: the data set that needs no download, made so that some answers lie far away in the image.

Of its nine classes, two pairs look exactly alike, pixel by pixel, and are told apart only by a small sign elsewhere:

- a vehicle on the right two thirds of the road is `moving` if the traffic light at the left edge is green, and
  `waiting` if it is red; either may have any colour;
- the strip below the road is `cycle_path` if the round sign at the right edge is blue, else (yellow) `pavement`.

A network has to carry a few pixels' colour across the image to be right, so one with little context is not.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segmentation.data.images import Pixels

CLASSES = ["sky", "building", "tree", "sign", "road", "moving", "waiting", "pavement", "cycle_path"]
LABEL = {name: label for label, name in enumerate(CLASSES)}
Colour = tuple[int, int, int]


class Scene:
    """One street, drawn from the back to the front into an image [H, W, 3] and a mask [H, W]."""

    def __init__(self, height: int, width: int, rng: np.random.Generator) -> None:
        self.height, self.width, self.rng = height, width, rng
        self.unit = min(height, width / 2) / 32  # pixels; everything is drawn in such units
        self.image: Pixels = np.zeros((height, width, 3), np.uint8)
        self.mask: Pixels = np.zeros((height, width), np.uint8)
        self.horizon = int(height * rng.uniform(0.42, 0.52))
        self.kerb = int(height * rng.uniform(0.76, 0.82))

    def draw(self) -> None:
        """Everything, back to front."""
        go, cycle = self.rng.random(2) < 0.5
        self._sky()
        self._buildings()
        self._trees()
        self._road()
        self._box(0, self.kerb, self.width, self.height, (168, 160, 150), "cycle_path" if cycle else "pavement")
        for x in np.arange(0, self.width, 8 * self.unit):  # slabs
            self._paint_line(x, self.kerb, x - 3 * self.unit, self.height, (150, 142, 134))
        self._vehicles("moving" if go else "waiting")
        self._sign(self.rng.uniform(0.03, 0.09), (40, 200, 70) if go else (225, 40, 40))
        self._sign(self.rng.uniform(0.91, 0.97), (50, 90, 230) if cycle else (235, 205, 50))

    def lit(self) -> Pixels:
        """The image in this scene's light, with a camera's noise."""
        gain = self.rng.uniform(0.75, 1.15)
        noise = self.rng.normal(0, 7, (self.height, self.width, 1))
        return np.clip(self.image * gain + noise, 0, 255).astype(np.uint8)

    def mask_with_seams(self, ignore_index: int) -> Pixels:
        """The mask with void where a pixel's right or lower neighbour is of another class."""
        mask = self.mask.copy()
        mask[:, :-1][self.mask[:, :-1] != self.mask[:, 1:]] = ignore_index
        mask[:-1][self.mask[:-1] != self.mask[1:]] = ignore_index
        return mask

    def _sky(self) -> None:
        top, bottom = np.array([90, 140, 210]), np.array([190, 210, 235])
        share = np.linspace(0, 1, self.height)[:, None, None]
        self.image[:] = top + share * (bottom - top)
        for x, y in zip(self.rng.uniform(0, self.width, 3), self.rng.uniform(0, self.horizon / 2, 3), strict=True):
            size = (int(5 * self.unit), int(1.5 * self.unit))
            cv2.ellipse(self.image, (int(x), int(y)), size, 0, 0, 360, (235, 238, 242), -1)

    def _buildings(self) -> None:
        x = -self.rng.uniform(0, 8) * self.unit
        while x < self.width:
            wide, high = self.rng.uniform(7, 14) * self.unit, self.rng.uniform(5, 13) * self.unit
            base = self.rng.integers(95, 175)
            colour = (int(base), int(base * 0.8), int(base * self.rng.uniform(0.6, 0.8)))
            self._box(x, self.horizon - high, x + wide, self.horizon, colour, "building")
            window = tuple(int(part * 0.55) for part in colour)
            for left in np.arange(x + self.unit, x + wide - 1.5 * self.unit, 2.5 * self.unit):
                for top in np.arange(self.horizon - high + self.unit, self.horizon - 2 * self.unit, 3 * self.unit):
                    self._paint(left, top, left + 1.2 * self.unit, top + 1.6 * self.unit, window)
            x += wide + self.rng.uniform(0, 4) * self.unit

    def _trees(self) -> None:
        for x in self.rng.uniform(0.12, 0.88, self.rng.integers(1, 5)) * self.width:
            crown = self.rng.uniform(2, 4) * self.unit
            self._box(
                x - self.unit / 2, self.horizon - 3 * self.unit, x + self.unit / 2, self.horizon, (96, 70, 44), "tree"
            )
            green = (int(self.rng.integers(25, 60)), int(self.rng.integers(95, 140)), int(self.rng.integers(35, 65)))
            self._disc(x, self.horizon - 3 * self.unit - crown * 0.6, crown, green, "tree")

    def _road(self) -> None:
        self._box(0, self.horizon, self.width, self.kerb, (92, 92, 98), "road")
        middle = (self.horizon + self.kerb) / 2
        for x in np.arange(self.rng.uniform(-6, 0) * self.unit, self.width, 6 * self.unit):
            self._paint(x, middle, x + 3 * self.unit, middle + max(1, self.unit / 2), (215, 215, 205))

    def _vehicles(self, state: str) -> None:
        for share in np.linspace(0.38, 0.8, self.rng.integers(1, 4)) + self.rng.uniform(-0.04, 0.04):
            long, high = self.rng.uniform(8, 11) * self.unit, self.rng.uniform(3, 4) * self.unit
            x, ground = share * self.width, self.rng.uniform(self.horizon + high, self.kerb - self.unit)
            colour: Any = tuple(int(part) for part in self.rng.integers(40, 230, 3))
            self._box(x, ground - high, x + long, ground, colour, state)
            self._box(x + 0.2 * long, ground - 1.6 * high, x + 0.75 * long, ground - high, colour, state)
            self._paint(x + 0.27 * long, ground - 1.5 * high, x + 0.68 * long, ground - high, (60, 75, 90))
            for wheel in (x + 0.22 * long, x + 0.78 * long):
                self._disc(wheel, ground, self.unit, (25, 25, 25), state)

    def _sign(self, share: float, colour: Colour) -> None:
        x, top = share * self.width, self.horizon - self.rng.uniform(4, 7) * self.unit
        self._box(x - self.unit / 3, top, x + self.unit / 3, self.kerb, (70, 70, 75), "sign")
        self._disc(x, top, 1.7 * self.unit, (30, 30, 30), "sign")
        self._disc(x, top, 1.3 * self.unit, colour, "sign")

    def _box(self, left: float, top: float, right: float, bottom: float, colour: Any, name: str) -> None:
        self._paint(left, top, right, bottom, colour)
        fill_box(self.mask, left, top, right, bottom, LABEL[name])

    def _paint(self, left: float, top: float, right: float, bottom: float, colour: Any) -> None:
        fill_box(self.image, left, top, right, bottom, colour)

    def _paint_line(self, x: float, y: float, to_x: float, to_y: float, colour: Colour) -> None:
        cv2.line(self.image, (int(x), int(y)), (int(to_x), int(to_y)), colour, max(1, int(self.unit / 3)))

    def _disc(self, x: float, y: float, radius: float, colour: Colour, name: str) -> None:
        centre, size = (int(x), int(y)), max(1, round(radius))
        cv2.circle(self.image, centre, size, colour, -1)
        cv2.circle(self.mask, centre, size, LABEL[name], -1)


def fill_box(canvas: npt.NDArray[np.uint8], left: float, top: float, right: float, bottom: float, value: Any) -> None:
    """Fill the pixels from (left, top) to (right, bottom), at least one, as far as they are on the canvas."""
    x, y = max(0, int(left)), max(0, int(top))
    canvas[y : max(int(bottom), y + 1), x : max(int(right), x + 1)] = value
