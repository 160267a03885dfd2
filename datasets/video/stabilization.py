"""Stabilization of clips: the motion of the camera is removed, by features and RANSAC.

Vondrick et al. (NIPS 2016) train on stabilized clips, so that the background is static. SIFT features of every frame
are matched with those of the first (Lowe 2004, ratio test), a homography is fitted by RANSAC, and the frame is warped
by it; what it does not show is taken from the frame before.
"""

from __future__ import annotations

import cv2
import numpy as np

RATIO = 0.75
"""A match is used if its distance is below this share of the second best one's."""
MIN_INLIERS, TOLERANCE = 12, 2.0
"""Matches that must agree, and their largest error in pixels; with fewer, a frame keeps the place of the one before."""


def stabilize(clip: np.ndarray) -> np.ndarray:
    """A clip (T, H, W, 3) uint8, with every frame as the camera of the first frame would show it."""
    detector, matcher = cv2.SIFT.create(), cv2.BFMatcher.create()
    found = [detector.detectAndCompute(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), None) for frame in clip]
    height, width = clip.shape[1:3]
    homography, stable = np.eye(3), [clip[0]]
    for frame, (points, descriptors) in zip(clip[1:], found[1:], strict=True):
        pairs = []
        if descriptors is not None and found[0][1] is not None:
            candidates = matcher.knnMatch(descriptors, found[0][1], k=2)
            pairs = [
                (points[pair[0].queryIdx].pt, found[0][0][pair[0].trainIdx].pt)
                for pair in candidates
                if len(pair) == 2 and pair[0].distance < RATIO * pair[1].distance
            ]
        if len(pairs) >= MIN_INLIERS:
            here, there = np.array(pairs, np.float32).swapaxes(0, 1)
            fitted, inliers = cv2.findHomography(here, there, cv2.RANSAC, TOLERANCE)
            if fitted is not None and inliers.sum() >= MIN_INLIERS:
                homography = fitted
        warped = cv2.warpPerspective(frame, homography, (width, height), flags=cv2.INTER_LINEAR)
        # What the frame shows, without the pixels at its edge that are interpolated with nothing.
        inside = cv2.warpPerspective(np.full((height, width), 255, np.uint8), homography, (width, height)) == 255
        stable.append(np.where(inside[..., None], warped, stable[-1]))
    return np.stack(stable)
