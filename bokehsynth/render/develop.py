"""From exact means and rays to a finished picture: the fast path of the CPU renderer, tile by tile."""

import numpy as np

from bokehsynth.render.collapse import RUNS_FROM
from bokehsynth.render.covary import (
    BATCH,
    CELL,
    aim,
    dim,
    look_up,
    mark_passed,
    repeat,
    sum_light,
    sum_samples,
    sum_slanted_colour,
)
from bokehsynth.render.jit import kernel, leaf
from bokehsynth.render.lanes import (
    LANES,
    add,
    div,
    load,
    madd,
    mul,
    peek,
    splat,
    store,
    store_rgb,
    sub,
    where_positive,
)
from bokehsynth.render.marginal import GROUP, filter_between, filter_plane, gains, gains_between
from bokehsynth.render.tiles import (
    REACH,
    STATES,
    TILE_H,
    TILE_W,
    classify,
    is_ordered,
    same_plane,
    varies_together,
    visible_order,
)

COPY, TAPS, RUNS, TOGETHER, RAYS = range(5)
"""Indices into `render.PATHS`. Tiles of the last kind are drawn by `render.rays`."""

PACKED, PACKED_STEP, SOURCE, SOURCE_STEP, SUMS, SUMS_STEP = range(6)
"""Columns of `addresses` [L, 6]: of canvas texel (0, 0) of the first plane, and from one plane to the next, in bytes:
premultiplied planes; what run kernels read; its prefix sums."""

NO_PUPIL, BY_CORNERS, BY_RAYS = range(3)
"""Whether the opening changes over the picture, and if so, whether kernels at corners of tiles follow it closely."""

DIRECT, AFTER, BEFORE = range(3)
"""Families of a layer's kernels (`spans` [L, 3, 2]): tap by tap; with prefix sums for r > 0; for r < 0."""

FLOAT = 4

MOST = 64
"""Largest side of a grid of rays in a tile: 4,096 for what kernels leave over beat 51 x 51 alone at any radius."""


def room_rows(layers: int, channels: int) -> int:
    """Rows of scratch that `develop_rows` needs."""
    return 2 * (layers + 1) * (3 + channels) + 3 * BATCH + 1


@kernel
def develop_rows(scene, book, rays, pupil, start, stop, color, coverage, paths, room):
    """Fill tile rows start .. stop - 1 of color [H, W, 3], coverage [H, W] and paths [tile rows, tile columns].

    scene: (addresses, planes, extremes, levels, opaque, spans, view, margin, stride); book: (taps, nodes, norms,
    reference); rays: points, weights and spans of a `lens_tables.RayTable`,
    which of R, G, B pass at all, and `plates.Aims`; pupil: (NO_PUPIL, BY_CORNERS or BY_RAYS,
    addresses of the two planes [H, W] of its centre, its radius); with corners, `spans` and the book are those of a
    single tile row (`plates.book_of_corners`); see `cpu`. Tiles marked RAYS are
    left alone. room: float32 [room_rows(L, C), CELL] of scratch; the caller holds it, since addresses into it would not
    keep it alive.
    """
    addresses, planes, extremes, levels, opaque, spans, view, margin, stride = scene
    (offsets, kernel_weights, first_tap, edges, first_run), nodes, norms, reference = book
    points, weights, ray_spans, lit, stretches, steps, places = rays
    layers, kinds = len(planes), 3 + len(weights)
    state, seen = np.zeros((layers, STATES)), np.empty(layers, np.int64)
    texel, kind = np.empty(BATCH, np.int64), np.empty(BATCH, np.int64)
    place, drift = np.empty((BATCH, 2), np.float32), np.empty((BATCH, 4), np.float32)
    means = np.int64(room.ctypes.data)
    sums = means + FLOAT * CELL * layers * kinds
    spare = sums + FLOAT * CELL * (layers + 2) * kinds
    for row in range(start, stop):
        y0 = row * TILE_H
        rows = min(TILE_H, len(color) - y0)
        for column in range(paths.shape[1]):
            x0 = column * TILE_W
            n = min(TILE_W, color.shape[1] - x0)
            y, x = y0 + margin - view[2], x0 + margin - view[3]
            for m in range(layers):
                classify(planes, extremes, levels, view, y, x, rows, n, m, state)
            order = seen[: visible_order(state, seen)]
            together = varies_together(state, order)
            way = _path(state, order, together)
            if not is_ordered(state, order, planes) or (pupil[0] == BY_RAYS and way != COPY):
                paths[row, column] = RAYS
                continue
            paths[row, column] = way
            for top in range(0, rows, GROUP):
                _expose(
                    addresses, planes, opaque, spans, view, stride, kinds, state, order, y + top, x,
                    pupil[0] == BY_CORNERS, top, column,
                    offsets, kernel_weights, first_tap, edges, first_run, nodes, norms, reference, means, spare,
                )  # fmt: skip
                if together:
                    begin, end = _rays_for(planes, state, order, ray_spans)
                    pixel = (y0 + top) * color.shape[1] + x0
                    _correlate(
                        addresses, planes, opaque, view, stride, kinds, state, order, y + top, x, pupil, pixel,
                        color.shape[1], points, weights, stretches, steps, places, begin, end,
                        texel, place, drift, kind, sums, spare,
                    )  # fmt: skip
                _finish(
                    kinds, opaque, lit, state, order, together, means, sums, spare,
                    y0 + top, x0, min(GROUP, rows - top), n, color, coverage,
                )  # fmt: skip


@leaf
def _path(state, order, together):
    if together:
        return TOGETHER
    reach = 0.0
    for m in order:
        reach = max(reach, state[m, REACH])
    return COPY if reach == 0 else TAPS if reach < RUNS_FROM else RUNS


@leaf
def _cell(address, kinds, m, p):
    return address + FLOAT * CELL * (m * kinds + p)


@leaf
def _expose(  # noqa: PLR0912  # one branch for each way a layer can be blurred
    addresses, planes, opaque, spans, view, stride, kinds, state, order, y, x, vignetted, top,
    column, offsets, weights, first_tap, edges, first_run, nodes, norms, reference, means, spare,
):  # fmt: skip
    """Means over the opening of the layers in `order`, for the group whose first pixel lies at offset (x, y).

    With a pupil the kernels are those at corners (`plates.book_of_corners`), and `top` is the group's row in the tile.
    """
    K, focus, oy, ox = view
    base, line, rows, per_tile = int(y + oy) * stride + int(x + ox), 0, 1, 0
    for m in order:
        count = 3 if opaque[m] == 1 else kinds
        if state[m, REACH] == 0:
            for p in range(count):
                plane, here = addresses[m, PACKED] + min(p, 3) * addresses[m, PACKED_STEP], _cell(means, kinds, m, p)
                for r in range(GROUP):
                    store(here, r * LANES, load(plane, base + r * stride))
            continue
        r, rx, ry = K * (planes[m, 0] + planes[m, 1] * x + planes[m, 2] * y - focus), K * planes[m, 1], K * planes[m, 2]
        if vignetted:
            runs, per_tile, rows = spans[m, 1, 1] == 1, spans[m, 2, 0], spans[m, 2, 1]
            line = top // rows  # of corners above the group
            entry = (spans[m, 0, 0] if line == 0 else spans[m, 0, 1]) + column * per_tile
            stop = (spans[m, 0, 1] if line == 0 else spans[m, 1, 0]) + column * per_tile
        else:
            family = _family(spans, m, r, rx, ry)
            runs, entry, stop = family != DIRECT, spans[m, family, 0], spans[m, family, 1]
        source, step = addresses[m, PACKED], addresses[m, PACKED_STEP]
        if runs:
            source, step = addresses[m, SOURCE], addresses[m, SOURCE_STEP]
        for p in range(count):
            plane, channel = min(p, 3), min(p, kinds - 4) if p < 3 else p - 3
            at, prefix = source + plane * step, addresses[m, SUMS] + plane * addresses[m, SUMS_STEP]
            if vignetted:
                filter_between(
                    at, prefix, stride, base, offsets, weights, first_tap, edges, first_run, entry, stop, per_tile,
                    top - line * rows, rows, channel, spare, _cell(means, kinds, m, p),
                )  # fmt: skip
            else:
                filter_plane(
                    at, prefix, stride, base, offsets, weights, first_tap, edges, first_run, nodes, entry, stop,
                    r, rx, ry, channel, spare, _cell(means, kinds, m, p),
                )  # fmt: skip
        if runs:
            if vignetted:
                gains_between(
                    r, rx, ry, norms, entry, stop, per_tile, top - line * rows, rows, reference[m], spare
                )  # fmt: skip
            else:
                gains(r, rx, ry, nodes, norms, entry, stop, reference[m], spare)
            for p in range(count):
                here = _cell(means, kinds, m, p)
                for i in range(GROUP):
                    store(here, i * LANES, mul(load(here, i * LANES), load(spare, i * LANES)))


@leaf
def _family(spans, m, r, rx, ry):
    """Which kernels serve a group: with prefix sums where the layer has them and all its radii are large enough."""
    low = r + min(0.0, rx * (LANES - 1)) + min(0.0, ry * (GROUP - 1))
    high = r + max(0.0, rx * (LANES - 1)) + max(0.0, ry * (GROUP - 1))
    alone = spans[m, DIRECT, 1] == spans[m, DIRECT, 0]  # then only pixels beyond the border have smaller radii
    if (low >= RUNS_FROM or alone) and spans[m, AFTER, 1] > spans[m, AFTER, 0]:
        return AFTER
    if (high <= -RUNS_FROM or alone) and spans[m, BEFORE, 1] > spans[m, BEFORE, 0]:
        return BEFORE
    return DIRECT


@leaf
def _correlate(  # noqa: PLR0912  # one batch of rays, from start to end
    addresses, planes, opaque, view, stride, kinds, state, order, y, x, pupil, pixel,
    width, points, weights, stretches, steps, places, start, stop, texel, place, drift, kind, sums, spare,
):  # fmt: skip
    """Sums over rays start .. stop - 1: of w c and w a of each layer (rows of `sums` by layer), and of what arrives.

    Row `layers` of sums gets sum w T c of all layers but the first and sum w T at the end, the next one sum w. Rays
    that the pupil stops count for nothing; `pixel` is the group's first in its planes, which are `width` wide.
    """
    layers = len(planes)
    mode, centres, radius = pupil
    nothing = splat(np.float32(0))
    for m in range(layers + 2):
        for p in range(kinds):
            for r in range(GROUP):
                store(_cell(sums, kinds, m, p), r * LANES, nothing)
    through, samples = spare, spare + FLOAT * CELL * BATCH
    mask = samples + FLOAT * CELL * BATCH if mode != NO_PUPIL else 0
    base = int(y + view[2]) * stride + int(x + view[3])
    for batch in range(start, stop, BATCH):
        end = min(stop, batch + BATCH)
        count, closed = end - batch, False
        for i in range(count * GROUP):
            store(through, i * LANES, splat(np.float32(1)))
        if mode != NO_PUPIL:
            mark_passed(centres, pixel, width, radius, points, batch, count, mask)
        for c in range(kinds - 3):
            sum_samples(through, mask, weights, c, batch, count, _cell(sums, kinds, layers + 1, c))
        for n in range(len(order)):
            m = order[n]
            sharp = state[m, REACH] == 0
            if not sharp:
                aim(
                    planes,
                    m,
                    view,
                    x,
                    y,
                    points,
                    stretches,
                    steps,
                    places,
                    batch,
                    end,
                    stride,
                    texel,
                    place,
                    drift,
                    kind,
                )
            slanted = planes[m, 1] != 0 or planes[m, 2] != 0
            if n > 0 and slanted and not sharp and kinds == 4:
                sum_slanted_colour(
                    addresses[m, PACKED], addresses[m, PACKED_STEP], stride, texel, place, drift, kind, through, mask,
                    weights, batch, count, _cell(sums, kinds, m, 0), _cell(sums, kinds, layers, 0), FLOAT * CELL,
                )  # fmt: skip
            elif n > 0:  # nothing lies in front of the first: its light is its mean
                for p in range(3):
                    _add_light(
                        addresses, planes, m, p, stride, base, sharp, texel, place, drift, kind, through, mask,
                        weights, min(p, kinds - 4), batch, count, _cell(sums, kinds, m, p),
                        _cell(sums, kinds, layers, p),
                    )  # fmt: skip
            if opaque[m] == 1:
                closed = True
                break
            _take_light(addresses, planes, m, stride, base, sharp, texel, place, drift, kind, count, through, samples)
            for c in range(kinds - 3):
                sum_samples(samples, mask, weights, c, batch, count, _cell(sums, kinds, m, 3 + c))
        for c in range(0 if closed else kinds - 3):
            sum_samples(through, mask, weights, c, batch, count, _cell(sums, kinds, layers, 3 + c))


@leaf
def _add_light(
    addresses, planes, m, p, stride, base, sharp, texel, place, drift, kind, through, mask,
    weights, channel, start, count, mean, full,
):  # fmt: skip
    """Add plane p of layer m, as `count` rays see it, to its own mean and to the light that arrives."""
    plane = addresses[m, PACKED] + p * addresses[m, PACKED_STEP]
    if sharp:
        _sum_sharp(plane, stride, base, through, mask, weights, channel, start, count, mean, full)
        return
    frontal = planes[m, 1] == 0 and planes[m, 2] == 0
    sum_light(
        plane, stride, frontal, texel, place, drift, kind, through, mask, weights, channel, start, count, mean, full
    )  # fmt: skip


@leaf
def _take_light(addresses, planes, m, stride, base, sharp, texel, place, drift, kind, count, through, samples):
    """Alpha of layer m as `count` rays see it, into `samples`, and out of what they let `through`."""
    plane = addresses[m, PACKED] + 3 * addresses[m, PACKED_STEP]
    if sharp:
        repeat(plane, stride, base, count, samples)
    else:
        frontal = planes[m, 1] == 0 and planes[m, 2] == 0
        look_up(plane, stride, frontal, texel, place, drift, kind, count, samples)
    dim(samples, through, count)


@leaf
def _rays_for(planes, state, order, ray_spans):
    """Start and stop in the ray tables for a tile.

    What is estimated is how two layers vary together, so the side follows the geometric mean of the two largest blur
    radii (`benchmarks/render.md`). Edges of two layers in one plane coincide on every ray: more rays find the seam.
    """
    widest, second, seam = 0.0, 0.0, 1.0
    for n in range(len(order)):
        m, before = order[n], order[max(0, n - 1)]
        if n > 0 and same_plane(planes, m, before):
            seam = 2.0
        reach = state[m, REACH]
        if reach > widest:
            widest, second = reach, widest
        else:
            second = max(second, reach)
    mean = np.sqrt(widest * second)
    side = 2 * int(np.ceil(seam * max(min(3.4 + 0.52 * mean, 11.0), 0.45 * mean)))
    side = min(side, MOST, len(ray_spans) - 1)
    return ray_spans[side, 0], ray_spans[side, 1]


@leaf
def _sum_sharp(plane, stride, base, through, mask, weights, channel, start, count, mean, full):
    """`sum_light` of a layer in focus: every ray sees the pixel's own texel."""
    for row in range(GROUP):
        value = load(plane, base + row * stride)
        m, f = load(mean, row * LANES), load(full, row * LANES)
        for i in range(count):
            c = mul(splat(weights[channel, start + i]), value)
            if mask != 0:
                c = mul(c, load(mask, (i * GROUP + row) * LANES))
            m, f = add(m, c), madd(f, load(through, (i * GROUP + row) * LANES), c)
        store(mean, row * LANES, m)
        store(full, row * LANES, f)


@leaf
def _finish(kinds, opaque, lit, state, order, together, means, sums, spare, y0, x0, rows, n, color, coverage):
    """Composite the means, add what varies together, divide by the light that arrived, write the pixels."""
    nothing, one = splat(np.float32(0)), splat(np.float32(1))
    layers = len(opaque)
    rgb, share = spare, spare + FLOAT * 3 * LANES
    for r in range(rows):
        at = r * LANES
        covered = nothing
        for c in range(3):
            if lit[c] == 0:  # the aperture blocks this channel: black, and no part of the coverage
                store(rgb, c * LANES, nothing)
                continue
            a = 3 + min(c, kinds - 4)
            value, through, before = nothing, one, nothing
            for place in range(len(order)):
                m = order[place]
                value = madd(value, load(_cell(means, kinds, m, c), at), through)
                if opaque[m] == 1:
                    through = nothing
                    break
                alpha = load(_cell(means, kinds, m, a), at)
                if place < len(order) - 1 and state[m, REACH] > 0:
                    before = add(before, alpha)
                through = mul(through, sub(one, alpha))
            if together:
                total = load(_cell(sums, kinds, layers + 1, a - 3), at)
                weight = where_positive(total, div(one, total), nothing)  # a pupil may stop every ray of a set
                light, left = _over_sums(kinds, opaque, order, sums, c, a, at, weight)
                seen = add(light, mul(load(_cell(sums, kinds, layers, c), at), weight))
                value = add(value, where_positive(before, seen, nothing))
                seen = sub(mul(load(_cell(sums, kinds, layers, a), at), weight), left)
                through = add(through, where_positive(before, seen, nothing))
            arrived = sub(one, through)
            store(rgb, c * LANES, where_positive(arrived, div(value, arrived), nothing))
            covered = arrived if kinds == 4 else add(covered, arrived)
        store(share, 0, covered if kinds == 4 else div(covered, splat(np.float32(lit[0] + lit[1] + lit[2]))))
        if n == LANES:
            pixel = (y0 + r) * coverage.shape[1] + x0
            red, green, blue = load(rgb, 0), load(rgb, LANES), load(rgb, 2 * LANES)
            store_rgb(np.int64(color.ctypes.data), 3 * pixel, red, green, blue)
            store(np.int64(coverage.ctypes.data), pixel, load(share, 0))
            continue
        for lane in range(n):
            for c in range(3):
                color[y0 + r, x0 + lane, c] = peek(rgb, c * LANES + lane)
            coverage[y0 + r, x0 + lane] = peek(share, lane)


@leaf
def _over_sums(kinds, opaque, order, sums, c, a, at, weight):
    """Minus the light of the rays' own means composited, without the first layer's, and what they let through."""
    light, through = splat(np.float32(0)), splat(np.float32(1))
    for place in range(len(order)):
        m = order[place]
        if place > 0:
            light = sub(light, mul(mul(load(_cell(sums, kinds, m, c), at), weight), through))
        if opaque[m] == 1:
            through = splat(np.float32(0))
            break
        through = mul(through, sub(splat(np.float32(1)), mul(load(_cell(sums, kinds, m, a), at), weight)))
    return light, through
