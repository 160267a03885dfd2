"""Published weights of optical flow: FlowNet of its authors (Caffe), of Pinard and of NVIDIA, and RAFT of Princeton."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ...backbones.published import Converted, Layout, Tensors, caffe_parameters, rename
from ..published import ConvertedModel
from .flownet import BODY, REFINEMENT, STEM

CONV1_S, CONV1_C = (64, 6, 7, 7), (64, 3, 7, 7)
PREDICTIONS = {f"predict_flow{level}.bias": 2 for level in range(2, 7)}
UPSAMPLINGS = {f"upsampled_flow{6 - n}_to_{5 - n}.bias": 2 for n in range(len(REFINEMENT))}


def without(network: str, absent: dict[str, int]) -> Callable[[Tensors], Converted]:
    """The conversion of a FlowNet whose names are ours, but which lacks some biases: they are 0."""

    def convert(tensors: Tensors) -> Converted:
        zeros = {name: torch.zeros(size) for name, size in absent.items() if name not in tensors}
        note = f"{len(zeros)} biases that it does not have are 0: {', '.join(name for name in zeros)}"
        return ConvertedModel(network, zeros | tensors, "flow", notes=(note,) if zeros else ())

    return convert


def convert_caffe(network: str) -> Callable[[Tensors], Converted]:
    """The conversion of the authors' Caffe models: predictions are numbered from coarse to fine; blue comes first."""
    names = {name: f"{name}.0" for name, *_ in (*STEM, *BODY)} | {"conv_redir": "conv_redir.0"}
    for number, level in enumerate(range(6, 1, -1), 1):
        names |= {f"Convolution{number}": f"predict_flow{level}", f"deconv{level}": f"deconv{level}.0"}
        names[f"upsample_flow{level}to{level - 1}"] = f"upsampled_flow{level}_to_{level - 1}"

    def convert(tensors: Tensors) -> Converted:
        moved = caffe_parameters(tensors, names)
        first = moved["conv1.0.weight"]
        moved["conv1.0.weight"] = first.unflatten(1, (-1, 3)).flip(2).flatten(1, 2)
        zeros = {
            name.replace("weight", "bias"): torch.zeros(tensor.shape[1])
            for name, tensor in moved.items()
            if tensor.ndim == 4 and ("upsampled" in name or "deconv" in name)
        }
        note = "the channels of conv1 are reversed, because its images have blue first"
        return ConvertedModel(network, zeros | moved, "flow", notes=(note,))

    return convert


# Princeton's names to torchvision's. With batch normalization, a block that halves has its third normalization twice.
RAFT_NAMES = (
    (r"fnet\.", "feature_encoder."),
    (r"cnet\.", "context_encoder."),
    (r"update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"update_block\.mask\.2\.", "mask_predictor.conv."),
    (r"update_block\.encoder\.conv([cf])(\d)\.", r"update_block.motion_encoder.conv\1\2.0."),
    (r"update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"update_block\.gru\.conv([zrq])(\d)\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"update_block\.gru\.conv([zrq])\.", r"update_block.recurrent_block.convgru1.conv\1."),
)
MOTION_NAMES = ((r"(update_block\.motion_encoder\.)convc", r"\1convcorr"), (r"(.*\.)convf(\d)", r"\1convflow\2"))
ENCODER_NAMES = (
    (r"(\w+_encoder\.)conv1\.", r"\1convnormrelu.0."),
    (r"(\w+_encoder\.)norm1\.", r"\1convnormrelu.1."),
    (r"(\w+_encoder\.)conv2\.", r"\1conv."),
    (r"(\w+_encoder\.layer\d\.\d\.)conv(\d)\.", r"\1convnormrelu\2.0."),
    (r"(\w+_encoder\.layer\d\.\d\.)norm(\d)\.", r"\1convnormrelu\2.1."),
)


def convert_raft(network: str) -> Callable[[Tensors], Converted]:
    """The conversion of Princeton's RAFT to torchvision's names."""
    last = 4 if network == "raft_small" else 3

    def convert(tensors: Tensors) -> Converted:
        kept = {name: tensor for name, tensor in tensors.items() if f".norm{last}." not in name}
        for rules in (RAFT_NAMES, MOTION_NAMES, ENCODER_NAMES):
            kept = rename(kept, rules)
        return ConvertedModel(network, kept, "flow")

    return convert


PORT = "FlowNetPytorch (Pinard)"
NVIDIA = "FlowNet2 for PyTorch (NVIDIA)"
PRINCETON = "RAFT (Princeton)"
AUTHORS = "FlowNet (Dosovitskiy et al., Caffe)"
LAYOUTS = (
    Layout(
        f"{AUTHORS}, FlowNetS",
        ("flownets_caffe",),
        {"conv1.0": CONV1_S, "Convolution1.0": (2, 1024, 3, 3), "deconv5.0": (1024, 512, 4, 4)},
        convert_caffe("flownets_caffe"),
    ),
    Layout(
        f"{AUTHORS}, FlowNetC",
        ("flownetc_caffe",),
        {"conv1.0": CONV1_C, "conv_redir.0": (32, 256, 1, 1), "Convolution1.0": (2, 1024, 3, 3)},
        convert_caffe("flownetc_caffe"),
    ),
    Layout(
        f"{NVIDIA}, FlowNet2-S",
        ("flownet2s",),
        {"conv1.0.weight": CONV1_S, "conv1.0.bias": (64,), "deconv5.0.bias": (512,), "predict_flow2.bias": (2,)},
        without("flownet2s", UPSAMPLINGS),
    ),
    Layout(
        f"{NVIDIA}, FlowNet2-C",
        ("flownet2c",),
        {"conv1.0.weight": CONV1_C, "conv_redir.0.weight": (32, 256, 1, 1), "deconv5.0.bias": (512,)},
        without("flownet2c", UPSAMPLINGS),
    ),
    Layout(
        f"{PORT}, FlowNetS with batch normalization",
        ("flownets_bn",),
        {"conv1.0.weight": CONV1_S, "conv1.1.running_mean": (64,), "predict_flow2.weight": (2, 194, 3, 3)},
        without("flownets_bn", PREDICTIONS),
    ),
    Layout(
        f"{PORT}, FlowNetS",
        ("flownets",),
        {"conv1.0.weight": CONV1_S, "conv1.0.bias": (64,), "predict_flow2.weight": (2, 194, 3, 3)},
        without("flownets", PREDICTIONS),
    ),
    Layout(
        f"{PORT}, FlowNetC",
        ("flownetc",),
        {"conv1.0.weight": CONV1_C, "conv_redir.0.weight": (32, 256, 1, 1), "predict_flow2.weight": (2, 194, 3, 3)},
        without("flownetc", PREDICTIONS),
    ),
    Layout(
        f"{PRINCETON}, large",
        ("raft_large",),
        {"fnet.conv1.weight": (64, 3, 7, 7), "cnet.norm1.running_mean": (64,), "update_block.mask.2.weight": None},
        convert_raft("raft_large"),
    ),
    Layout(
        f"{PRINCETON}, small",
        ("raft_small",),
        {"fnet.conv1.weight": (32, 3, 7, 7), "cnet.conv1.weight": (32, 3, 7, 7), "update_block.gru.convz.bias": None},
        convert_raft("raft_small"),
    ),
)
