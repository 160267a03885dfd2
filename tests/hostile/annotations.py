"""Malicious annotations: JSON of COCO, tables, and lists of files and numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .harness import Case
from .layouts import Layouts, case

CATEGORY = {"id": 1, "name": "cat", "keypoints": ["a"], "skeleton": []}
IMAGE = {"id": 1, "file_name": "cat-00.png"}
PERSON = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": [20, 20, 2], "bbox": [8, 8, 40, 40]}


def coco(image: object = IMAGE, person: object = PERSON, category: object = CATEGORY, **others: object) -> bytes:
    """A file of COCO with one image, person and category; text of the other values replaces `"KEY"` in the JSON."""
    stored = json.dumps({"images": [image], "annotations": [person], "categories": [category]})
    for key, value in others.items():
        stored = stored.replace(f'"{key}"', str(value))
    return stored.encode()


def generate_annotations(rng: np.random.Generator, folder: Path) -> Iterator[Case]:
    """Cases of `data validate` on annotations, and of `predict pose --boxes`."""
    layouts = Layouts(folder, rng)
    yield from _json(layouts)
    yield from _boxes(layouts)
    yield from _tables(layouts)
    yield from _lists(layouts)


def hostile_json(rng: np.random.Generator) -> dict[str, bytes]:
    """Contents that are no annotations."""
    depth = int(rng.integers(500, 10**6))
    million = 10**6
    return {
        "60 MB of {}": b'{"images":[' + b"{}," * (20 * million) + b"{}]}",
        "60 MB of []": b'{"images":[' + b"[]," * (20 * million) + b"[]]}",
        "keys": b"{" + b",".join(b'"%x":0' % number for number in range(million)) + b"}",
        "lists in lists": b"[" * depth + b"]" * depth,
        "objects in objects": b'{"a":' * depth + b"1" + b"}" * depth,
        "unfinished": b'{"images":[{"a":' * depth,
        "digits": b'{"images":' + b"9" * 5000 + b"}",
        "no JSON": b"\x1b[2J\x00\xff",
        "bytes of no UTF-8": b'{"images": "\xff\xfe\xfd"}',
        "text alone": b'"' + b"a" * million + b'"',
        "NUL": b'{"images"\0: []}',
        "null": b"null",
        "UTF-16": '{"images": "\ud83d\ude00"}'.encode("utf-16", "surrogatepass"),
    }


def _json(layouts: Layouts) -> Iterator[Case]:
    outside = "../" * int(layouts.rng.integers(1, 9)) + "secret.png"
    contents = hostile_json(layouts.rng) | {
        "absolute name": coco({**IMAGE, "file_name": "/etc/passwd"}),
        "name outside": coco({**IMAGE, "file_name": outside}),
        "name outside, backslashes": coco({**IMAGE, "file_name": outside.replace("/", "\\")}),
        "name of a surrogate": coco({**IMAGE, "file_name": "\ud800.png"}),
        "name with NUL": coco({**IMAGE, "file_name": "a\0.png"}),
        "name with control characters": coco({**IMAGE, "file_name": "\x1b[2J\u202e.png"}),
        "name of a megabyte": coco({**IMAGE, "file_name": "n" * 10**6}),
        "name of a list": coco({**IMAGE, "file_name": [["a"]]}),
        "id of a list": coco({**IMAGE, "id": [[[1]]]}),
        "id of 5,000 digits": coco({**IMAGE, "id": "X"}, X="9" * 4000),
        "infinite coordinate": coco(person={**PERSON, "keypoints": ["X", 1, 2]}, X="1e400"),
        "nan coordinate": coco(person={**PERSON, "keypoints": ["X", 1, 2]}, X="NaN"),
        "coordinate of 400 digits": coco(person={**PERSON, "keypoints": ["X", 1, 2]}, X="9" * 400),
        "coordinates of text": coco(person={**PERSON, "keypoints": ["a\x1b", None, {}]}),
        "huge box": coco(person={**PERSON, "bbox": [1e308, -1e308, 1e308, "X"]}, X="1e400"),
        "box of lists": coco(person={**PERSON, "bbox": [[1], [2], [3], [4]]}),
        "infinite area": coco(person={**PERSON, "area": "X"}, X="-Infinity"),
        "area of 400 digits": coco(person={**PERSON, "area": "X"}, X="9" * 400),
        "crowd of an infinite number": coco(person={**PERSON, "iscrowd": "X"}, X="1e400"),
        "100,000 joints": coco(category={**CATEGORY, "keypoints": ["a"] * 100_000}),
        "joints of lists": coco(category={**CATEGORY, "keypoints": [[[["a"]]]]}),
        "skeleton beyond the joints": coco(category={**CATEGORY, "skeleton": [[1, 10**18]]}),
        "skeleton of 400 digits": coco(category={**CATEGORY, "skeleton": [["X", 1]]}, X="1e400"),
        "category of control characters": coco({**IMAGE, "file_name": "no.png"}, category={**CATEGORY, "name": "\x1b"}),
        "no person": b'{"images": [], "annotations": [], "categories": []}',
        "other types": b'{"images": {}, "annotations": 7, "categories": "x"}',
    }
    yield from layouts.replaced("json", "pose-folders", "people.json", contents)
    yield from layouts.damaged("json", "pose-folders", "people.json", 6)
    skeletons = {"skeleton.json": b'{"edges": [[[[1]], 2]], "pairs": 7}', "nested": b'{"edges":' + b"[" * 9999 + b"}"}
    yield from layouts.replaced("json", "pose-folders", "skeleton.json", skeletons)


def _boxes(layouts: Layouts) -> Iterator[Case]:
    root = layouts.root("pose-folders")
    image = next(iter(sorted(root.glob("images/*.png"))))
    contents = hostile_json(layouts.rng) | {
        "box of 400 digits": coco({**IMAGE, "file_name": image.name}, {**PERSON, "bbox": [1, 1, 9, "X"]}, X="9" * 400),
        "infinite box": coco({**IMAGE, "file_name": image.name}, {**PERSON, "bbox": [1, 1, 9, "X"]}, X="1e400"),
        "control characters": coco({**IMAGE, "file_name": "\x1b[2J.png"}),
    }
    for number, (name, content) in enumerate(contents.items()):
        file = layouts.folder / f"boxes-{number}.json"
        file.write_bytes(content)
        yield Case("boxes", name, ("predict", "pose", str(image), "--boxes", str(file), "--device", "cpu"))


def _tables(layouts: Layouts) -> Iterator[Case]:
    header = b"file,a_x,a_y,a_flag\n"
    wide = ",".join(f"j{number}_x,j{number}_y,j{number}_flag" for number in range(20_000))
    size = int(layouts.rng.integers(131_073, 10**7))
    people = {
        "cell over the limit of csv": header + b"a" * size + b",1,1,2\n",
        "quoted cell over the limit": header + b'"' + b"a," * size + b'",1,1,2\n',
        "no closing quote": header + b'"a.png,1,1,2\n',
        "60,000 columns": f"file,{wide}\na.png\n".encode(),
        "10 million commas": header + b"," * 10**7,
        "5 million lines": header + b"a\n" * (5 * 10**6),
        "infinite coordinates": header + b"cat-00.png,1e400,1,2\n",
        "nan coordinates": header + b"cat-00.png,nan,1,2\n",
        "coordinates of 5,000 digits": header + b"cat-00.png," + b"9" * 5000 + b",1,2\n",
        "nan flag": header + b"cat-00.png,1,1,nan\n",
        "NUL": header + b"cat\0.png,1,1,2\n",
        "name outside": header + b"../../secret.png,1,1,2\n",
        "control characters": header + b"\x1b[2J.png,1,1,2\n",
        "no UTF-8": header + b"\xff\xfe.png,1,1,2\n",
        "header alone": header,
        "empty lines": b"\n" * 10**6,
    }
    yield from layouts.replaced("table", "pose-folders", "people.csv", people, old="people.json")
    scores = {
        "infinite score": b"images/train-0.jpg,1e400\n",
        "nan": b"images/train-0.jpg,nan\n",
        "digits": b"images/train-0.jpg," + b"9" * 5000 + b"\n",
        "cell over the limit of csv": b"a" * size + b",0.5\n",
        "name outside": b"../" * 9 + b"secret.jpg,0.5\n",
        "absolute name": b"/etc/passwd,0.5\n",
        "surrogates": "\ud800.jpg,0.5\n".encode("utf-8", "surrogatepass"),
        "NUL": b"a\0b,0.5\n",
    }
    yield from layouts.replaced("table", "score-folders", "scores.csv", scores)
    yield from layouts.damaged("table", "score-folders", "scores.csv")


def _lists(layouts: Layouts) -> Iterator[Case]:
    digits = b"9" * int(layouts.rng.integers(4301, 9000))
    names = {
        "name outside": b"../../../etc/passwd",
        "control characters": b"\x1b[31m\x07",
        "NUL": b"a\0b",
        "a line of 20 MB": b"n" * (20 * 2**20),
        "5 million lines": b"n\n" * (5 * 10**6),
        "no UTF-8": b"\xff\xfe",
        "digits": digits,
    }
    lists = (
        ("image-folders", "train.txt", b"%s\n"),
        ("kitti-depth", "eigen_train_files_with_gt.txt", b"%s x 1\n"),
        ("nyu-raw", "nyudepthv2_train_files_with_gt.txt", b"%s x 518\n"),
        ("lamem-1", "splits/train_1.txt", b"%s 0.5\n"),
        ("lnsim", "b/train.txt", b"%s 0.5\n"),
        ("seven-scenes", "chess/TrainSplit.txt", b"sequence%s\n"),
        ("camvid", "CamVid/train.txt", b"%s %s\n"),
        ("label-folders", "classes.txt", b"%s\n"),
    )
    for dataset, file, line in lists:
        contents = {f"{file}: {name}": line.replace(b"%s", text) for name, text in names.items()}
        chosen = layouts.rng.permutation(list(contents))[:4].tolist()
        for each in layouts.replaced("list", dataset, file, {name: contents[name] for name in chosen}):
            # Any text can be the name of a class.
            yield Case(each.kind, each.name, each.command, may_succeed=dataset == "label-folders")
    numbers = {"nan": b"nan", "infinite": b"1e400", "digits": digits, "negative": b"-1", "nothing": b"\n"}
    yield from layouts.replaced("list", "depth-folders", "depth_unit.txt", numbers)
    focal = {name: b"/train_kitchen/rgb_00000.jpg a.png " + text + b"\n" for name, text in numbers.items()}
    yield from layouts.replaced("list", "nyu-raw", "nyudepthv2_train_files_with_gt.txt", focal)
    camera = {"nan camera": b"nan 0 1\n0 1 1\n0 0 1\n", "camera of digits": (digits + b" 0 1\n") * 3}
    yield from layouts.replaced("list", "seven-scenes", "chess/camera-intrinsics.txt", camera)
    yield from layouts.replaced("list", "image-folders", "terms.txt", {"terms of other bytes": b"\xff\x1b[2J"})
    root = layouts.root("sintel-clean")
    flow = next(iter(sorted(root.rglob("*.flo"))))
    flow.rename(flow.with_name(f"frame_{layouts.rng.integers(10**9, 10**12)}.flo"))
    yield case("list", "frame of a huge number", "sintel-clean", root)
