"""Whether a picture that cannot be read is at fault itself: then it is rejected for good."""

from __future__ import annotations

import re

from spark_job.errors import JobError
from spark_job.listing import MACHINE_FAULTS, written

# What S3 says of an object, not of itself or the way to it, as pyarrow tells it.
_OWN_FAULT = re.compile(
    r"AWS Error (ACCESS_DENIED|RESOURCE_NOT_FOUND|NO_SUCH_KEY|INVALID_OBJECT_STATE|"
    # 136 is Aws::S3::S3Errors::INVALID_OBJECT_STATE: archived.
    r"\[code 136\]|UNKNOWN \(HTTP status 4\d\d\))"
)


def require_own_fault(name: str, error: OSError, *, is_local: bool) -> None:
    """Raise JobError (1) where the next attempt may read it: the task ends, and Spark repeats it.

    name: the path of a local file, or bucket and key.
    """
    if is_local and error.errno in MACHINE_FAULTS:
        raise JobError(
            1,
            f"{written(name)} could not be read: {error.strerror}",
            hint="fruits run --resume continues from here. A file that is damaged for good must be "
            "moved away first.",
        ) from error
    if not is_local and not _OWN_FAULT.search(str(error)):
        raise JobError(
            1,
            f"s3://{name} could not be read: {error}"[:500],
            hint="fruits run --resume continues from here.",
        ) from error
