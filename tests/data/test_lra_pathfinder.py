"""Pathfinder images: contours, marks, labels, files."""

import copy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lcsm.data.labelled.contours import FREE, Canvas, ContourRule
from lcsm.errors import UsageError
from tests.data.helpers import assert_same, take
from tests.data.labelled_helpers import LARGE_IMAGES, SMALL_IMAGES, make_pathfinder

RULES = pytest.mark.parametrize("rule", [SMALL_IMAGES, LARGE_IMAGES], ids=["32", "128"])


# drawing takes most of the time of these tests
GROWN: dict[int, Canvas] = {}


def grown(rule: ContourRule) -> Canvas:
    """Twelve images with their long contours."""
    if rule.resolution not in GROWN:
        GROWN[rule.resolution] = Canvas(rule, np.random.default_rng(0), 12)
        GROWN[rule.resolution].contours()
    return copy.deepcopy(GROWN[rule.resolution])


@RULES
def test_dashes_of_a_contour_follow_each_other_at_the_gap(rule: ContourRule):
    canvas = grown(rule)
    assert (canvas.count == 2 * rule.contour_length).all()
    for own in (0, 1):
        starts, ends = canvas.starts[:, own : canvas.count[0] : 2], canvas.ends[:, own : canvas.count[0] : 2]
        np.testing.assert_allclose(np.linalg.norm(ends - starts, axis=-1), rule.dash_length)
        between = np.linalg.norm(starts[:, 1:] - ends[:, :-1], axis=-1)
        # two halves of the gap with a turn between them
        assert (between <= 2 * canvas.gap[:, None] + 1e-9).all() and (between >= canvas.gap[:, None]).all()


@RULES
def test_turns_stay_within_the_continuity(rule: ContourRule):
    canvas = grown(rule)
    for own in (0, 1):
        turns = np.diff(canvas.angles[:, own : canvas.count[0] : 2])
        assert np.abs(turns).max() <= np.pi / 2 / rule.continuity + 1e-9
        assert np.abs(turns).max() > 0.5 / rule.continuity


def crossings(canvas: Canvas, image: int) -> int:
    """Pairs of dashes of an image that cross."""
    number = canvas.count[image]
    a, b = canvas.starts[image, :number], canvas.ends[image, :number]

    def side(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
        return np.sign((q - p)[..., 0] * (r - p)[..., 1] - (q - p)[..., 1] * (r - p)[..., 0])

    a1, b1, a2, b2 = a[:, None], b[:, None], a[None], b[None]
    cross = (side(a1, b1, a2) != side(a1, b1, b2)) & (side(a2, b2, a1) != side(a2, b2, b1))
    return int(np.triu(cross, 1).sum())


@RULES
def test_no_two_dashes_cross_and_all_lie_in_the_image(rule: ContourRule):
    canvas = grown(rule)
    canvas.distractors()
    assert [crossings(canvas, image) for image in range(12)] == [0] * 12
    assert canvas.count.mean() > 2 * rule.contour_length + rule.distractor_length
    for points in (canvas.starts, canvas.ends):
        shown = points[np.arange(points.shape[1]) < canvas.count[:, None]]
        assert shown.min() >= rule.margin and shown.max() <= rule.resolution - rule.margin


def test_steps_taken_back_leave_no_trace():
    canvas = grown(SMALL_IMAGES)
    before = canvas.taken.copy()
    rows = np.arange(12)
    done = canvas.begin(rows, SMALL_IMAGES.margin)
    assert done.any()
    canvas.return_to(rows[done], np.full(done.sum(), 2 * SMALL_IMAGES.contour_length))
    assert (canvas.taken == before).all() and (before != FREE).any()


def test_the_label_says_whether_the_marks_are_on_one_contour():
    canvas = grown(LARGE_IMAGES)
    canvas.distractors()
    images, labels = canvas.picture()
    tips = [(canvas.starts[:, own], canvas.ends[:, 2 * LARGE_IMAGES.contour_length - 2 + own]) for own in (0, 1)]
    for image, label, *points in zip(images, labels, *(part for tip in tips for part in tip), strict=True):
        # a mark fills its surroundings, a dash does not
        around = [np.clip(p.astype(int)[:, None] + [[-1, 0, 1, 0, 0], [0, 0, 0, 1, -1]], 0, 127) for p in points]
        marked = [image[tuple(cells)].min() > 200 for cells in around]
        ends = [own for own in (0, 1) if marked[2 * own]], [own for own in (0, 1) if marked[2 * own + 1]]
        assert (len(ends[0]), len(ends[1])) == (1, 1)
        assert (ends[0] == ends[1]) == bool(label)


def test_images_are_grey_values_with_both_labels():
    drawn = SMALL_IMAGES.draw(np.random.default_rng(1), 0, 32)
    images = drawn.documents[0].flat.reshape(32, 32 * 32)
    assert images.dtype == np.uint8 and set(drawn.labels.tolist()) == {0, 1}
    assert (images == 255).any(1).all() and (images == 0).mean() > 0.5


def test_a_block_is_a_function_of_its_place():
    first, again, other = (SMALL_IMAGES.block(3, 0, start, 4) for start in (0, 0, 256))
    images = [block.documents[0].flat for block in (first, again, other)]
    assert (images[0] == images[1]).all() and (first.labels == again.labels).all()
    assert not (images[0] == images[2]).all()


def test_batches_are_sequences_of_values_between_minus_one_and_one(tmp_path: Path):
    modules = [make_pathfinder(cache_dir=str(tmp_path / name)) for name in ("a", "b")]
    batch = take(modules[0].train_dataloader(), 1)[0]
    assert batch["inputs"].shape == (8, 1024, 1) and batch["inputs"].min() == -1 and batch["inputs"].max() == 1
    assert batch["mask"].all() and "segments" not in batch
    assert_same([batch], take(modules[1].train_dataloader(), 1))


def write_release(folder: Path, label: str = "1") -> None:
    level = folder / "curv_contour_length_14"
    (level / "imgs/0").mkdir(parents=True)
    (level / "metadata").mkdir()
    for index in range(10):
        Image.fromarray(np.full((32, 32), 20 * index, np.uint8)).save(level / f"imgs/0/sample_{index}.png")
    lines = [f"imgs/0 sample_{index}.png {index} {label} 1.0 14" for index in range(10)]
    (level / "metadata/0.npy").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_released_images_are_split_without_overlap(tmp_path: Path):
    write_release(tmp_path)
    module = make_pathfinder(root=str(tmp_path), cache_dir=str(tmp_path / "cache"))
    values = [set(module.prepare().load(split).documents[0].flat.tolist()) for split in ("train", "validation", "test")]
    assert [len(part) for part in values] == [8, 1, 1]
    assert set.union(*values) == {20 * index for index in range(10)}


def test_missing_and_broken_files_are_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"lacks curv_contour_length_14/metadata/\*.npy;\nexpected .*imgs/\*/\*.png"):
        make_pathfinder(root=str(tmp_path)).prepare()
    write_release(tmp_path, label="2")
    with pytest.raises(UsageError, match=r"0.npy, line 1: expected folder, file, number and label"):
        make_pathfinder(root=str(tmp_path)).prepare()
    (tmp_path / "curv_contour_length_14/metadata/0.npy").write_text("imgs/0 sample_99.png 0 1\n" * 10)
    with pytest.raises(UsageError, match=r"sample_99.png is missing or no readable image"):
        make_pathfinder(root=str(tmp_path)).prepare()
