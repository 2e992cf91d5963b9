"""What an answer of an object store means: exists already, busy for now, refused for good.

obstore's messages quote the request and the server's answer, with the key id and the signature in it. Only the status
and the error code are taken from them, and no error raised here has them as its cause.
"""

import re
from typing import NoReturn

from bokehsynth.errors import StorageError, UsageError

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,60})</Code>")
_TAKEN_CODES = {"BlobAlreadyExists", "UnauthorizedBlobOverwrite", "ResourceAlreadyExists"}
"""Azure answers 409 where S3 answers 412; any other 409 is a race, which is to be asked again."""
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_METADATA_SERVICE = re.compile(r"169\.254\.|metadata\.google|/metadata/identity|fd00:ec2")
"""Hosts that machines of a cloud ask for credentials; elsewhere nothing answers there."""


class TakenError(Exception):
    """A conditional put found another object in its place, or another version of it."""


class BusyError(Exception):
    """The store may answer in a moment, or has done what was asked and its answer was lost. Holds a reason in words."""


class NoConditionsError(Exception):
    """The store refuses conditional puts."""


def raise_meaning(error: Exception, where: str) -> NoReturn:
    """Raise what an error of obstore means: one of those above, FileNotFoundError, EOFError or an error for people."""
    text = str(error)
    status = int(found[1]) if (found := _STATUS.search(text)) else 0
    code = found[1] if (found := _CODE.search(text)) else ""
    kind = type(error).__name__
    answer = f"{status} {code}".strip() if status else ""
    if status == 404 or isinstance(error, FileNotFoundError):
        if code in {"NoSuchBucket", "ContainerNotFound"}:
            raise UsageError(f"{where}: there is no such bucket; make it, or check its name") from None
        raise FileNotFoundError(f"{where}: not there") from None
    if status == 416:
        raise EOFError(f"{where}: ends before this range") from None
    if status == 409 and code not in _TAKEN_CODES:
        raise BusyError(f"another request was being served ({answer})") from None
    if kind in {"AlreadyExistsError", "PreconditionError"} or status in {409, 412}:
        raise TakenError(where) from None
    if status == 501 or kind == "NotSupportedError":
        raise NoConditionsError(where) from None
    if code in _EXPIRED:
        raise StorageError(
            f"{where}: the credentials of the environment have expired ({answer}): renew them, then run the same line "
            "again; what was committed stays"
        ) from None
    if status in {401, 403} or kind in {"PermissionDeniedError", "UnauthenticatedError"}:
        raise StorageError(
            f"{where}: the store refuses these credentials ({answer or kind}): check those of the environment and what "
            "the bucket lets them do"
        ) from None
    if not status and _METADATA_SERVICE.search(text):
        raise StorageError(
            f"{where}: no credentials were found in the environment (for S3: AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or those of a machine's role)"
        ) from None
    if not status or status in {408, 429} or status >= 500:
        raise BusyError(f"it answered {answer}" if answer else "no answer") from None
    raise StorageError(f"{where}: the store refuses the request ({answer})") from None
