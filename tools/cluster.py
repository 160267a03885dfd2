"""What a large training or prediction needs: hosts, decoding cores, network, requests, checkpoint interval, cost.

python tools/cluster.py measure                    what one CPU core of this machine decodes and encodes in a second
python tools/cluster.py train --images 13.15e6 --gpus 64 --rate 2500
python tools/cluster.py predict --images 1e9 --gpus 100 --rate 2500

Each prints a table in Markdown; --help lists what else can be stated. Rates and times are measured (the defaults on two
cores of an AMD EPYC, see docs/cluster.md); prices are the list prices of an object store, and change.
"""

from __future__ import annotations

import argparse
import math
import time

KB, GB = 1e3, 1e9
HOUR, DAY = 3600.0, 86400.0


def young_interval(save_seconds: float, mtbf_seconds: float) -> float:
    """Seconds between checkpoints that lose the least: sqrt(2 save MTBF). Young, CACM 17(9), 1974."""
    return math.sqrt(2 * save_seconds * mtbf_seconds)


def lost_share(save_seconds: float, mtbf_seconds: float, interval: float) -> float:
    """Share of the time that saving and computing again what a failure lost take, to first order."""
    return save_seconds / interval + interval / 2 / mtbf_seconds


def train(case: argparse.Namespace) -> dict[str, str]:
    """Rows about a training: quantity and value."""
    rate, hosts = case.rate * case.gpus, math.ceil(case.gpus / case.gpus_per_host)
    epoch = case.images / rate
    mtbf = case.host_mtbf_hours * HOUR / hosts
    interval = young_interval(case.save_seconds, mtbf)
    hours = case.epochs * epoch / HOUR * (1 + lost_share(case.save_seconds, mtbf, interval))
    parts = math.ceil(case.images / case.per_part)
    host_bytes, stored = rate * case.image_kb * KB / hosts, case.images * case.image_kb * KB / 1e12
    return {
        "images/s": f"{rate:,.0f}",
        "one epoch": f"{epoch / 60:,.1f} min",
        "decoding cores for each GPU": f"{case.rate / case.decoded_per_core:.1f}",
        "network of a host, first epoch": f"{host_bytes * 8 / GB:.1f} Gbit/s",
        "the set": f"{stored:.2f} TB in {parts:,} parts",
        "an equal share of a host": f"{stored / hosts:.2f} TB",
        "reads of an epoch, parts": f"{parts:,} ({parts * case.get_price / 1e3:.2f} $)",
        "reads of an epoch, a file for each image": f"{case.images:,.0f} ({case.images * case.get_price / 1e3:.2f} $)",
        "opening without an index, each process": f"{case.images * case.open_us / 1e6 / HOUR:.1f} h",
        "failures of a host, one in": f"{mtbf / HOUR:,.1f} h",
        "checkpoint interval": f"--save-every {interval:.0f}s ({interval / 60:.0f} min)",
        "lost to saving and failures": f"{100 * lost_share(case.save_seconds, mtbf, interval):.1f} %",
        "lost with a save every 20 s": f"{100 * lost_share(case.save_seconds, mtbf, 20):.0f} %",
        f"{case.epochs:g} epochs": f"{hours:,.1f} h, {hours * case.gpus * case.gpu_price:,.0f} $",
    }


def predict(case: argparse.Namespace) -> dict[str, str]:
    """Rows about a prediction: quantity and value."""
    seconds = case.images / (case.rate * case.gpus)
    cores = case.images * (1 / case.decoded_per_core + case.outputs * case.encode_ms / 1e3)
    files, parts = case.images * (1 + case.outputs), math.ceil(case.images / case.per_part)
    # Each part is a tar and its record.
    tars, record = 2 * parts, case.record_bytes * case.images / GB
    return {
        "images/s": f"{case.rate * case.gpus:,.0f}",
        "time": f"{seconds / HOUR:,.1f} h, {seconds / HOUR * case.gpus * case.gpu_price:,.0f} $",
        "decoding and encoding": f"{cores / DAY:,.0f} core days: {cores / seconds / case.gpus:.1f} cores for each GPU",
        "of these encoding": f"{case.images * case.outputs * case.encode_ms / 1e3 / DAY:,.0f} core days",
        "record": f"{record:,.0f} GB in one file, or {case.per_part * case.record_bytes / KB:,.0f} kB a part",
        "writes, a file for each": f"{files:,.0f} ({files * case.put_price / 1e3:,.0f} $)",
        f"writes, parts of {case.per_part:,}": f"{tars:,.0f} ({tars * case.put_price / 1e3:,.0f} $)",
        "network, all hosts": f"{case.rate * case.gpus * case.image_kb * KB * 8 / GB:.0f} Gbit/s read",
        "time with batches of one": f"{case.images / case.batch_1_rate / case.gpus / HOUR:,.1f} h",
    }


def measure(case: argparse.Namespace) -> dict[str, str]:
    """Images that one core decodes, augments and encodes in a CPU second; photos of scikit-image at 500 pixels."""
    import cv2
    import numpy as np
    from skimage import data

    cv2.setNumThreads(1)
    photo = cv2.resize(np.asarray(data.coffee()), (500, 375), interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    depth = (cv2.GaussianBlur(photo[..., 0], (0, 0), 5).astype(np.float32) * 200).astype(np.uint16)

    def decode() -> None:
        image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
        assert image is not None
        cv2.resize(image[20:340, 40:460], (224, 224), interpolation=cv2.INTER_LINEAR).astype(np.float32)

    rows = {"size of the JPEG": f"{len(jpeg) / KB:.0f} kB"}
    actions = {
        "decode and crop to 224": decode,
        "encode a map as 16-bit PNG": lambda: cv2.imencode(".png", depth),
        "encode an image as PNG": lambda: cv2.imencode(".png", photo),
    }
    for name, action in actions.items():
        begun, done = time.process_time(), 0
        while time.process_time() < begun + case.seconds:
            action()
            done += 1
        each = (time.process_time() - begun) / done
        rows[name] = f"{1 / each:,.0f} a CPU second, {1e3 * each:.1f} ms each"
    return rows


def parser() -> argparse.ArgumentParser:
    """The options of the three commands."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True)
    for name in ("train", "predict"):
        one = commands.add_parser(name)
        one.add_argument("--images", type=float, required=True)
        one.add_argument("--gpus", type=int, required=True)
        one.add_argument("--rate", type=float, required=True, help="images/s of one GPU (densevision bench)")
        one.add_argument("--image-kb", type=float, default=110, help="size of an image")
        one.add_argument("--per-part", type=int, default=1000, help="images of a part")
        one.add_argument("--decoded-per-core", type=float, default=550, help="images a CPU second, with augmentation")
        one.add_argument("--gpu-price", type=float, default=2.5, help="dollars an hour")
    training, prediction = commands.choices["train"], commands.choices["predict"]
    prediction.set_defaults(decoded_per_core=850)
    training.add_argument("--epochs", type=float, default=90)
    training.add_argument("--gpus-per-host", type=int, default=8)
    training.add_argument("--host-mtbf-hours", type=float, default=1440, help="hours between failures of one host")
    training.add_argument("--save-seconds", type=float, default=4)
    training.add_argument("--get-price", type=float, default=0.0004, help="dollars for 1,000 reads")
    training.add_argument("--open-us", type=float, default=620, help="CPU microseconds to open an image in a tar")
    prediction.add_argument("--outputs", type=int, default=2, help="files written for an image")
    prediction.add_argument("--encode-ms", type=float, default=5.5, help="CPU milliseconds for one of them")
    prediction.add_argument("--batch-1-rate", type=float, default=600, help="images/s of one GPU, one image a batch")
    prediction.add_argument("--record-bytes", type=float, default=307, help="record of an image")
    prediction.add_argument("--put-price", type=float, default=0.005, help="dollars for 1,000 writes")
    commands.add_parser("measure").add_argument("--seconds", type=float, default=3)
    return top


def main() -> None:
    case = parser().parse_args()
    rows = {"train": train, "predict": predict, "measure": measure}[case.command](case)
    print("| quantity | value |\n| --- | --- |")
    for name, value in rows.items():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
