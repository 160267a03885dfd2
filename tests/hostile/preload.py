"""Imports of the fork server: what a command would import, once instead of in every process."""

import h5py
import scipy.io

import densevision
import densevision.apps.cli
import densevision.apps.evaluate
import densevision.apps.predict
import densevision.apps.train
import densevision.apps.weights
import densevision.tests.hostile.generators
from densevision.datasets.classification.imagenet import imagenet_classes

_ = densevision.load, h5py, scipy.io, imagenet_classes()
