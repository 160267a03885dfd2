"""Probes by name: what of a network's answer, or inside it, is asked about.

    class:tabby             a class's score before the softmax; class:281 is the same
    layer3:17               the mean of a channel of a level, or of any submodule
    layer3:17@12,8          one unit of it, at x, y of the level
    depth@120,80            an answer at a pixel of the shown picture
    depth@10,10,50,40       its mean over a box: x, y, width, height
    left wrist x            where a joint is
    class:dog - class:cat   sums and differences, with factors: 0.5 * layer3:17 + layer3:18

A task's own words stand in `DENSE`. What they measure is in `measures.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from ...datasets.fields import Keypoints, Labels
from ...errors import UserError
from .measures import Channel, Joint, Probe, Region, Score, Sum, Unit
from .nearest import nearest, no_such
from .sensitivity import gradients, require_alive, score
from .subject import Subject

__all__ = [
    "DENSE",
    "Channel",
    "Joint",
    "Probe",
    "Region",
    "Score",
    "Sum",
    "Unit",
    "gradients",
    "parse_probe",
    "probes_of",
    "require_alive",
    "score",
]

Words = dict[str, int]
"""What a task calls the channels of its dense answer."""


def _pictures(subject: Subject) -> Words:
    return {"red": 0, "green": 1, "blue": 2}


def _translated(subject: Subject) -> Words:
    assert subject.task is not None
    ((_, goal),) = subject.task.targets(subject.fields).items()
    if isinstance(goal, Labels):
        return {f"class:{name}": number for number, name in enumerate(goal.names)}
    return _pictures(subject) if getattr(goal, "channels", 3) == 3 else {"grey": 0}


# A task's own words, each with a channel of its raw output. Classification and pose have no dense answer.
DENSE: dict[str, Callable[[Subject], Words]] = {
    "colorization": lambda subject: {"a": 0, "b": 1},
    "depth": lambda subject: {"depth": 0},
    "flow": lambda subject: {"flow-u": 0, "flow-v": 1},
    "restoration": _pictures,
    "translation": _translated,
}


def dense_words(subject: Subject) -> Words:
    """The words before an @, with their channels; none where the answer is no map."""
    made = DENSE.get(subject.task.name) if subject.task is not None else None
    return {} if made is None else made(subject)


def joint_names(subject: Subject) -> tuple[str, ...]:
    """The joints that a pose network looks for."""
    joints = subject.fields.get("joints")
    return joints.skeleton.names if isinstance(joints, Keypoints) else ()


def probes_of(subject: Subject) -> list[str]:
    """What may be typed as a probe, a line each; X, Y, WIDTH, HEIGHT and CHANNEL stand for numbers.

    Levels come first, then the task's own words, and the classes last.
    """
    levels = [] if subject.trunk is None else [f"{each.name}:CHANNEL" for each in subject.trunk.levels]
    return [
        *levels,
        *(f"{level}@X,Y" for level in levels),
        *(f"{word}@{place}" for word in dense_words(subject) for place in ("X,Y", "X,Y,WIDTH,HEIGHT")),
        *(f"{joint} {axis}" for joint in joint_names(subject) for axis in "xy"),
        *(f"class:{name}" for name in subject.classes),
    ]


def parse_probe(text: str, subject: Subject) -> Probe:
    """The probe that a text names; `str` of it is such a text again.

    Args:
        text: as the top of this file shows; sums have spaces around + and -, factors around *.
        subject: whose classes, levels and answers are meant.

    Raises:
        UserError: nothing of that name, with the nearest names that are.
    """
    text = text.strip()
    if text.removeprefix("class:") in subject.classes and text.startswith("class:"):
        return _score(text.removeprefix("class:"), subject)  # a name may hold a minus
    first, *others = re.split(r"(?:^| )([+-]) ", text)
    terms = [("+", first)] if first else []
    terms += zip(others[::2], others[1::2], strict=True)
    if not terms:
        raise UserError(f"The probe is empty; name one, like {_example(subject)}.")
    total: Probe | None = None
    for sign, term in terms:
        factor, name = _factor_of(term.strip())
        factor = -factor if sign == "-" else factor
        probe = _parse_term(name, subject)
        probe = probe if factor == 1 else factor * probe
        total = probe if total is None else total + probe
    assert total is not None
    return total


def _factor_of(term: str) -> tuple[float, str]:
    number, star, rest = term.partition(" * ")
    if not star:
        return (-1.0, term[1:]) if term.startswith("-") else (1.0, term)
    try:
        return float(number), rest.strip()
    except ValueError:
        raise UserError(f"'{number}' in '{term}' is no number; a factor stands in front: 0.5 * PROBE.") from None


def _parse_term(text: str, subject: Subject) -> Probe:
    body, at, place = text.rpartition("@") if "@" in text else (text, "", "")
    dense = dense_words(subject)
    if at and body in dense:
        return Region(body, dense[body], *_numbers(text, place, (2, 4)))
    if body in dense:
        raise UserError(f"'{text}' names no place; add one in pixels of the shown picture: {body}@X,Y.")
    head, colon, index = body.rpartition(":")
    if text.startswith("class:") and not dense:
        return _score(text.removeprefix("class:"), subject)
    if colon and re.fullmatch(r"-?\d+", index):
        channel = Channel(_level(head, subject), _channel(head, int(index), subject))
        if not at:
            return channel
        x, y = _numbers(text, place, (2,))
        return Unit(channel.level, channel.index, x, y)
    for joint in joint_names(subject):
        for axis in "xy":
            if text.casefold() == f"{joint} {axis}".casefold():
                return Joint(joint, joint_names(subject).index(joint), axis)
    if colon and not head.startswith("class"):
        _level(head, subject)
        raise UserError(f"'{index}' in '{text}' is no channel; give its number: {head}:17.")
    raise _unknown(body, subject)


def _score(name: str, subject: Subject) -> Score:
    names = subject.classes
    if not names:
        raise UserError(f"{subject.name} has no classifier, hence no class:{name}; probe a level: {_example(subject)}.")
    if name in names:
        return Score(name, names.index(name))
    if name.isdigit():
        if int(name) >= len(names):
            raise UserError(f"{subject.name} has the classes 0 to {len(names) - 1}, and no {name}.")
        return Score(names[int(name)], int(name))
    alike = [one for one in names if one.casefold() == name.casefold()]
    if len(alike) == 1:
        return Score(alike[0], names.index(alike[0]))
    raise no_such("class", name, names)


def _level(name: str, subject: Subject) -> str:
    known = subject.known_levels()
    if name not in known:
        raise no_such(f"level of {subject.name}", name, known)
    return name


def _channel(level: str, index: int, subject: Subject) -> int:
    """A channel that the level has; of submodules that are no levels this shows when they are looked at."""
    for each in subject.trunk.levels if subject.trunk is not None else ():
        if each.name == level and not 0 <= index < each.channels:
            raise UserError(f"{level} has the channels 0 to {each.channels - 1}, and no {index}.")
    return index


def _numbers(text: str, place: str, counts: Iterable[int]) -> tuple[int, ...]:
    try:
        numbers = tuple(int(number) for number in place.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in tuple(counts) or (len(numbers) == 4 and min(numbers[2:]) < 1):
        forms = " or ".join("X,Y" if count == 2 else "X,Y,WIDTH,HEIGHT" for count in counts)
        raise UserError(f"'{place}' in '{text}' is no place; write whole numbers with commas: {forms}.")
    return numbers


def _unknown(body: str, subject: Subject) -> UserError:
    words = [*dense_words(subject), *(f"{joint} {axis}" for joint in joint_names(subject) for axis in "xy")]
    words += [f"{level}:0" for level in subject.known_levels()[:20]]
    near = nearest(body, [*words, *(f"class:{name}" for name in subject.classes)]) or words[:3]
    hint = f"nearest: {', '.join(near)}" if near else f"try {_example(subject)}"
    return UserError(f"'{body}' is no probe of {subject.name}; {hint}; densevision visualize probes lists all.")


def _example(subject: Subject) -> str:
    listed = probes_of(subject)
    return (
        listed[-1].replace("WIDTH,HEIGHT", "20,20").replace("X,Y", "10,10").replace("CHANNEL", "0")
        if listed
        else "LAYER:0"
    )
