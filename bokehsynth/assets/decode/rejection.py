"""Reasons for rejecting a file: a fixed vocabulary, so that quarantine lists can be counted and searched."""

from bokehsynth.errors import AssetError

REASONS = {
    "missing": "there is no such file (a link that leads nowhere, or it vanished meanwhile)",
    "not_a_file": "a folder, FIFO, socket or device; only regular files are opened",
    "outside_root": "a link that leads out of its source's folder",
    "unreadable": "the file system refuses to give it: permission or a read error",
    "unsupported_format": "none of PNG, JPEG, WebP, TIFF, Radiance .hdr and OpenEXR, or a variant of them not read",
    "too_large": "more pixels, bytes or memory than a picture may take",
    "too_small": "fewer pixels on a side than can be used",
    "truncated": "the file ends before its picture does",
    "corrupt": "the file contradicts itself: a checksum, a length or a code is wrong",
    "too_slow": "decoding did not end within its time",
    "animated": "holds several frames; a data set is made of stills",
    "not_finite": "holds NaN or infinite values",
    "no_matte": "a foreground without a matte: neither transparency nor a matte file beside it",
    "empty_matte": "a matte that shows nothing",
    "matte_size": "the matte has another size than its picture",
    "matte_in_color": "the matte file is no matte: its channels differ",
    "ambiguous_matte": "several files could be the matte",
    "blurred": "a landscape that is itself out of focus, below the sharpness floor",
    "clipped": "more of it is white or black than its source's quality allows",
    "poor_matte": "a matte that misses a threshold of its source's quality",
    "has_alpha": "a landscape with transparent parts: there is nothing behind it",
    "half_pair": "a pair of which one photograph is missing",
    "several_f_numbers": "a photograph that the metadata of its set give more than one f-number",
    "pair_size": "a pair whose two photographs have different sizes",
    "unlike": "a pair whose two photographs cannot be aligned: they do not show the same thing",
    "misaligned": "a pair whose subject lies in different places",
    "exposure": "a pair whose subject is lighter or darker in one photograph than the checks allow",
    "links_splits": "looks like an asset of train and like one of val, so it belongs to neither",
}
"""Every `reason`, and what it means."""


class RejectedPicture(AssetError):  # noqa: N818  # the base class ends in Error
    """A picture file that cannot be used; `reason` is one of REASONS, the message says more.

    `lasting` tells that it follows from the file's bytes; all else may be otherwise next time, and is not remembered.
    """

    def __init__(self, message: str, reason: str, lasting: bool = True) -> None:
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is not in the vocabulary of reasons")
        super().__init__(message, reason)
        self.lasting = lasting

    def __reduce__(self) -> tuple[type["RejectedPicture"], tuple[str, str, bool]]:
        return RejectedPicture, (str(self), self.reason, self.lasting)
