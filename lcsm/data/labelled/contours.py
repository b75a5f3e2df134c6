"""Pathfinder images: do two marked points lie on the same dashed contour? Many images are drawn at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lcsm.data.labelled.store import LabelledSet, as_rows
from lcsm.data.rules import Rule
from lcsm.data.settings import require_integer

# directions or places that are tried for a dash
TRIES = 16
# times a distractor is begun before it is left out
DISTRACTOR_TRIALS = 4
# where contours find no room, so many dashes are taken back for each time that it has happened in this image
STEPS_BACK = 2
# points of a dash at which free space is asked for
PROBES = 5
# smaller images have two cells along a pixel in the map of free space
FINE_BELOW = 64
FREE = np.iinfo(np.int16).max


@dataclass(frozen=True)
class ContourRule(Rule[LabelledSet]):
    """The rule of an image; lengths in pixels.

    Two long contours of dashes start near each other and grow side by side; shorter ones distract. One end of one long
    contour is marked, and the far end of the same one (label 1) or of the other (label 0).

    Args:
        resolution: height and width.
        contour_length, distractor_length: dashes of a long and of a distracting contour.
        num_distractors: distracting contours that are tried; some may find no room.
        dash_length, dash_thickness: of each dash.
        gaps: half the space between two dashes; each image takes one of them.
        continuity: dashes turn by an angle with density cos(continuity angle)^2; larger is straighter.
        seed_distance: between the starts of the two long contours.
        marker_radius: of the two marks.
        margin: free border.
    Raises:
        UsageError: the resolution is no integer >= 8.
    Source: Linsley et al. 2018 (arXiv 1805.08315), with the parameters of the Long Range Arena. Drawing, randomness and
        the test for free space are our own, so that accuracies compare with published ones only roughly.
    """

    BLOCK = 256

    resolution: int
    contour_length: int
    distractor_length: int
    num_distractors: int
    dash_length: float
    dash_thickness: float
    gaps: Sequence[float]
    continuity: float
    seed_distance: float
    marker_radius: float
    margin: float

    def __post_init__(self) -> None:
        require_integer("data.resolution", self.resolution, 8)

    def draw(self, random: np.random.Generator, first_row: int, rows: int) -> LabelledSet:
        """Images as sequences of their grey values, uint8, with labels 0 and 1."""
        canvas = Canvas(self, random, rows)
        canvas.contours()
        canvas.distractors()
        return as_rows(*canvas.picture())


def unit(angle: np.ndarray) -> np.ndarray:
    """Unit vectors of angles, [... 2]."""
    return np.stack([np.sin(angle), np.cos(angle)], -1)


class Canvas:
    """Several images that grow in step, dash by dash.

    Dash n of the long contours belongs to contour n % 2. The map of free space holds the number of the dash that took a
    place first, so that steps can be taken back.

    Args:
        rule: how images are made.
        random: source of all choices.
        images: number of images.
    """

    def __init__(self, rule: ContourRule, random: np.random.Generator, images: int) -> None:
        self.rule, self.random = rule, random
        self.gap = random.choice(np.array(rule.gaps), size=images)
        self.cells = 2 if rule.resolution < FINE_BELOW else 1
        width = rule.resolution * self.cells
        self.taken = np.full((images, width, width), FREE, dtype=np.int16)
        most = 2 * rule.contour_length + rule.num_distractors * rule.distractor_length
        self.starts, self.ends = np.zeros((images, most, 2)), np.zeros((images, most, 2))
        self.angles = np.zeros((images, most))
        self.count = np.zeros(images, dtype=np.int64)

    def contours(self) -> None:
        """Grow the two long contours side by side."""
        rule, failures = self.rule, np.zeros_like(self.count)
        while len(rows := np.flatnonzero(self.count < 2 * rule.contour_length)):
            number = self.count[rows]
            done = np.zeros(len(rows), dtype=bool)
            done[number == 0] = self.begin(rows[number == 0], rule.margin + rule.seed_distance)
            done[number == 1] = self.begin_near(rows[number == 1])
            done[number > 1] = self.extend(rows[number > 1], 2)
            rows, number = rows[~done], number[~done]
            failures[rows] += 1
            number = np.maximum(number - STEPS_BACK * failures[rows], 0)
            # who begins anew has not failed yet
            failures[rows[number == 0]] = 0
            self.return_to(rows, number)

    def distractors(self) -> None:
        """Add short contours wherever there is room."""
        for _ in range(self.rule.num_distractors):
            before = self.count.copy()
            for _ in range(DISTRACTOR_TRIALS):
                rows = np.flatnonzero(self.count == before)
                done = self.begin(rows, self.rule.margin)
                for _ in range(self.rule.distractor_length - 1):
                    rows = rows[done]
                    done = self.extend(rows, 1)
                    self.return_to(rows[~done], before[rows[~done]])

    def begin(self, rows: np.ndarray, border: float) -> np.ndarray:
        """Begin a contour anywhere inside a border; in which of the rows there was room."""
        start = self.random.uniform(border, self.rule.resolution - border, (len(rows), TRIES, 2))
        return self.add(rows, start, self.random.uniform(0, 2 * np.pi, start.shape[:2]), 0)

    def begin_near(self, rows: np.ndarray) -> np.ndarray:
        """Begin the second long contour at its distance from the first."""
        angle, around = self.random.uniform(0, 2 * np.pi, (2, len(rows), TRIES))
        start = self.starts[rows, 0][:, None] + self.rule.seed_distance * unit(around)
        return self.add(rows, start, angle, 0)

    def extend(self, rows: np.ndarray, stride: int) -> np.ndarray:
        """Add a dash to the contour whose last dash was drawn `stride` dashes ago; in which rows there was room."""
        last = rows, self.count[rows] - stride
        turns = self.turns((len(rows), TRIES)) / self.rule.continuity
        angle = self.angles[last][:, None] + turns
        gap = self.gap[rows, None]
        # the pivot lies in the middle of the gap
        pivot = self.ends[last] + gap * unit(self.angles[last])
        return self.add(rows, pivot[:, None] + gap[..., None] * unit(angle), angle, stride)

    def turns(self, shape: tuple[int, ...]) -> np.ndarray:
        """Angles with density proportional to cos^2 between its zeros."""
        angles = np.linspace(-np.pi / 2, np.pi / 2, 513)
        shares = 0.5 + (angles + np.sin(angles) * np.cos(angles)) / np.pi
        return np.interp(self.random.random(shape), shares, angles)

    def add(self, rows: np.ndarray, start: np.ndarray, angle: np.ndarray, stride: int) -> np.ndarray:
        """Add one of the tried dashes [rows tries] to each image.

        It is the first one with room for itself and for a straight continuation, else the first with room for itself.

        Args:
            stride: the dash that came this many dashes ago may be touched; 0 for none.
        Returns:
            where there was room, bool [rows].
        """
        ahead, dash = unit(angle), self.rule.dash_length
        end, gap = start + dash * ahead, 2 * self.gap[rows, None, None]
        free = self.free(rows, start, end, stride)
        further = free & self.free(rows, end + gap * ahead, end + (gap + dash) * ahead, stride)
        done = np.any(free, axis=1)
        choice = np.flatnonzero(done), (free.astype(np.int8) + further)[done].argmax(1)
        rows = rows[done]
        number = self.count[rows]
        self.starts[rows, number], self.ends[rows, number] = start[choice], end[choice]
        self.angles[rows, number] = angle[choice]
        self.count[rows] += 1
        self.take(rows, number)
        return done

    def free(self, rows: np.ndarray, start: np.ndarray, end: np.ndarray, stride: int) -> np.ndarray:
        """Whether dashes [rows tries 2] lie inside the border and meet no other, [rows tries]."""
        shares = np.linspace(0, 1, PROBES)[:, None]
        points = start[:, :, None] * (1 - shares) + end[:, :, None] * shares
        low, high = self.rule.margin, self.rule.resolution - self.rule.margin
        inside = np.all((points >= low) & (points <= high), axis=(2, 3))
        cells = np.clip((points * self.cells).astype(np.int64), 0, self.taken.shape[1] - 1)
        owner = self.taken[rows[:, None, None], cells[..., 0], cells[..., 1]]
        touchable = (self.count[rows] - stride)[:, None, None] if stride else FREE
        return inside & np.all((owner == FREE) | (owner == touchable), axis=2)

    def take(self, rows: np.ndarray, number: np.ndarray) -> None:
        """Mark the room around the newest dashes as theirs, where it was free."""
        reach = (2 * self.gap[rows] + self.rule.dash_thickness) * self.cells
        start, end = self.starts[rows, number] * self.cells, self.ends[rows, number] * self.cells
        size = int(np.ceil(self.rule.dash_length * self.cells + 2 * reach.max(initial=0))) + 2
        place, distance = patch(start, end, size, self.taken.shape[1])
        dash, cell = np.nonzero(distance < reach[:, None])
        where = rows[dash], *place[dash, cell].T
        fresh = self.taken[where] == FREE
        self.taken[tuple(part[fresh] for part in where)] = number[dash][fresh]

    def return_to(self, rows: np.ndarray, number: np.ndarray) -> None:
        """Take back all dashes of some images from a number on."""
        map_of_rows = self.taken[rows]
        map_of_rows[map_of_rows >= number[:, None, None]] = FREE
        self.taken[rows] = map_of_rows
        self.count[rows] = number

    def picture(self) -> tuple[np.ndarray, np.ndarray]:
        """Grey values, uint8 [images R R], and labels, int64 [images]."""
        rule, rows = self.rule, np.arange(len(self.count))
        labels, origin = self.random.integers(2, size=(2, len(rows)))
        far = 2 * rule.contour_length - 2 + np.where(labels == 1, origin, 1 - origin)
        grey = np.zeros((len(rows), rule.resolution, rule.resolution))
        image, number = np.nonzero(np.arange(self.starts.shape[1]) < self.count[:, None])
        shade(grey, image, self.starts[image, number], self.ends[image, number], rule.dash_thickness / 2)
        for mark in (self.starts[rows, origin], self.ends[rows, far]):
            shade(grey, rows, mark, mark, rule.marker_radius)
        return np.round(255 * grey).astype(np.uint8), labels


def patch(start: np.ndarray, end: np.ndarray, size: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """The cells around dashes and their distances to them.

    Args:
        start, end: ends of the dashes in cells, [dashes 2].
        size: width of the square of cells around each dash.
        limit: cells along an image; squares are cut there.
    Returns:
        rows and columns, int64 [dashes size^2 2], and distances of their middles, [dashes size^2].
    """
    corner = np.floor((start + end) / 2 - size / 2).astype(np.int64)
    offsets = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), -1).reshape(-1, 2)
    place = np.clip(corner[:, None] + offsets, 0, limit - 1)
    along = end - start
    to_cell = place + 0.5 - start[:, None]
    share = (to_cell * along[:, None]).sum(-1) / np.maximum((along**2).sum(-1), 1e-12)[:, None]
    nearest = np.clip(share, 0, 1)[..., None] * along[:, None]
    return place, np.sqrt(((to_cell - nearest) ** 2).sum(-1))


def shade(grey: np.ndarray, image: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float) -> None:
    """Draw lines with round ends and soft edges into images [images R R], lighter values winning."""
    length = np.sqrt(((end - start) ** 2).sum(-1)).max(initial=0)
    place, distance = patch(start, end, int(np.ceil(length + 2 * radius)) + 3, grey.shape[1])
    light = np.clip(radius + 0.5 - distance, 0, 1)
    np.maximum.at(grey, (np.broadcast_to(image[:, None], light.shape), place[..., 0], place[..., 1]), light)
