"""An alarm clock with two bells."""

import numpy as np

from bokehsynth.procedural.foregrounds.brush import Canvas, blend, linear, palette
from bokehsynth.procedural.foregrounds.curves import ellipse, opened, ribbon, rotate, rounded_box
from bokehsynth.procedural.foregrounds.light import Light, draw_light, gloss, lit, relief, rim, studio
from bokehsynth.procedural.toolkit import Points, smoothstep
from bokehsynth.rng import chance, pick, uniform


def paint_clock(canvas: Canvas, rng: np.random.Generator) -> None:
    """A twin-bell alarm clock of radius 1 around the origin."""
    light = draw_light(rng)
    case = pick(rng, palette("c23b2e", "2f7f86", "d9a63a", "2c2e33", "8fb7a6", "b8bcc2"), (3, 3, 2, 2, 2, 2))
    brass = linear("d8b060") if chance(rng, 0.5) else linear("c3c7cc")
    dial = pick(rng, palette("f4eedf", "fafafa", "20242c"), (3, 2, 1))
    hours = uniform(rng, 0, 12)
    _handle(canvas, brass, light)
    for side in (-1.0, 1.0):
        _foot(canvas, side, brass, light)
        _bell(canvas, side, (brass if chance(rng, 0.7) else case, brass), light)
    _case(canvas, case, brass, light)
    _dial(canvas, dial, hours, light)


def _metal(canvas: Canvas, outline: Points, color: Points, light: Light, radius: float) -> None:
    """A lacquered or plated body inflated from an outline."""
    patch = canvas.fill(outline)
    form = relief(patch, radius)
    paint = lit(form, color * 0.75, light) + 0.5 * rim(form, light, 2.0)
    paint += (0.35 * studio(form, light))[..., None] * (0.25 + 0.75 * color.astype(np.float32))
    canvas.over(patch, paint + 0.6 * gloss(form, light, 60)[..., None])


def _foot(canvas: Canvas, side: float, color: Points, light: Light) -> None:
    leg = ribbon(np.array([[side * 0.55, 0.75], [side * 0.80, 1.16]]), np.array([0.11, 0.075]))
    _metal(canvas, leg, color, light, 0.09)
    _metal(canvas, ellipse((side * 0.80, 1.17), (0.105, 0.085)), color, light, 0.08)


def _bell(canvas: Canvas, side: float, colors: tuple[Points, Points], light: Light) -> None:
    """A dome that leans outward on a post, with a knob on top."""
    lean = side * 0.62
    arc = np.linspace(np.pi, 2 * np.pi, 40)
    dome = np.stack([0.47 * np.cos(arc), 0.40 * np.sin(arc)], -1)
    lip = np.stack([0.47 * np.cos(arc[::-1]), -0.09 * np.sin(arc[::-1])], -1)
    post = ribbon(rotate(np.array([[0.0, -0.9], [0.0, -1.3]]), lean), 0.05)
    _metal(canvas, post, colors[1], light, 0.05)
    center = rotate(np.array([[0.0, -1.20]]), lean)[0]
    _metal(canvas, rotate(np.array(ellipse((0.0, -0.42), (0.075, 0.075))), lean) + center, colors[1], light, 0.07)
    _metal(canvas, rotate(np.concatenate([dome, lip]), lean) + center, colors[0], light, 0.40)
    edge = np.stack([0.455 * np.cos(arc), -0.09 * np.sin(arc)], -1)
    canvas.atop(
        canvas.fill(ribbon(rotate(edge, lean) + center, 0.018)), blend((colors[0] * 0.3, linear("ffffff")), 0.25)
    )


def _handle(canvas: Canvas, color: Points, light: Light) -> None:
    """The carrying handle above the bells, and the hammer between them."""
    _metal(canvas, ribbon(np.array([[0.0, -0.95], [0.0, -1.48]]), 0.03), color * 0.7, light, 0.03)
    _metal(canvas, rounded_box((0.0, -1.44), (0.14, 0.075), 0.06), color, light, 0.07)
    loop = opened(
        [(-0.72, -1.25), (-0.62, -1.72), (-0.30, -1.90), (0.0, -1.94), (0.30, -1.90), (0.62, -1.72), (0.72, -1.25)], 10
    )
    _metal(canvas, ribbon(loop, 0.045), color, light, 0.045)


def _case(canvas: Canvas, color: Points, metal: Points, light: Light) -> None:
    """The round body: a deep lacquered ring and a plated bezel."""
    outer = canvas.fill(ellipse((0, 0), (1.0, 1.0), count=160))
    rho = np.sqrt(outer.x**2 + outer.y**2) + np.float32(1e-6)
    for low, high, paint in ((0.80, 1.0, color), (0.755, 0.815, metal)):
        ring = canvas.fill(ellipse((0, 0), (high, high), count=160)) if high < 1 else outer
        radius = rho if high == 1.0 else np.sqrt(ring.x**2 + ring.y**2) + np.float32(1e-6)
        s = np.clip((radius - (low + high) / 2) / ((high - low) / 2), -0.97, 0.97)
        form = np.stack([s * ring.x / radius, s * ring.y / radius, np.sqrt(1 - s * s)], -1).astype(np.float32)
        shade = lit(form, paint * 0.8, light) + (0.3 * studio(form, light))[..., None] * (0.3 + 0.7 * paint)
        canvas.over(ring, shade + 0.9 * gloss(form, light, 50)[..., None] + 0.5 * rim(form, light, 2.0))


def _dial(canvas: Canvas, color: Points, hours: float, light: Light) -> None:
    """A slightly domed face with ticks, hands, their shadows and a glint of the glass."""
    face = canvas.fill(ellipse((0, 0), (0.76, 0.76), count=140))
    fall = 1.0 - 0.22 * (face.x * -light.key[0] + face.y * -light.key[1]) - 0.25 * (face.x**2 + face.y**2)
    canvas.over(face, color * fall[..., None])
    canvas.darken(canvas.soft(ellipse(light.key[:2] * 0.62, (0.80, 0.80)), 0.3).within(face), 0.25)
    ink = linear("16181c") if color.mean() > 0.3 else linear("e8e2d0")
    for i in range(60):
        long = i % 5 == 0
        tick = np.array([[0.0, -0.70], [0.0, -0.56 if i % 15 == 0 else -0.60 if long else -0.67]])
        canvas.over(
            canvas.fill(ribbon(rotate(tick, i * np.pi / 30), 0.026 if i % 15 == 0 else 0.018 if long else 0.006)), ink
        )
    alarm = rotate(np.array([[0.0, 0.10], [0.0, -0.32]]), hours * 2.1)
    hands = [(alarm, 0.012, linear("b02a20"))]
    for turn, reach, width in ((hours * np.pi / 6, 0.40, 0.042), (hours * 2 * np.pi, 0.60, 0.030)):
        hands.append((rotate(np.array([[0.0, 0.10], [0.0, -reach]]), turn), width, ink))
    shift = -light.key[:2] * 0.05
    for spine, width, _ in hands:
        canvas.darken(canvas.soft(ribbon(spine, width) + shift, 0.05).within(face), 0.45)
    for spine, width, paint in hands:
        canvas.over(canvas.fill(ribbon(spine, np.array([width, width * 0.55]))), paint)
    _metal(canvas, ellipse((0, 0), (0.06, 0.06)), linear("c9a24a"), light, 0.05)
    glint = canvas.fill(ellipse(light.key[:2] * 0.55, (0.40, 0.30), -0.5)).within(face)
    fade = smoothstep(0.1, 0.7, (glint.x * light.key[0] + glint.y * light.key[1]) / 0.9)
    canvas.over(glint, (1.0, 1.0, 1.0), 0.30 * fade)
