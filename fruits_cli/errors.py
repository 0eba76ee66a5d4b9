"""Every way fruits can fail, each with its exit code.

FruitsError                1  we could not: network, refusal, disk full, declined
├── Declined               1  the user said no at a prompt
├── CloudError             1  AWS said no, or did not answer
│   ├── AccessDenied
│   │   └── Forbidden         by a policy of the organisation
│   ├── BucketElsewhere
│   ├── ClusterNotFound
│   ├── QuotaTooSmall
│   ├── Locked
│   ├── RoleNotReady
│   ├── DeadlineReached
│   └── Unanswered
├── TunnelError            1  SSH, ports or the proxy
│   ├── HostUnreachable       may answer later
│   ├── HostKeyRefused
│   └── LoginRefused
├── MachineError           1  Java, disk or a process of this machine
├── JobCancelled           1  somebody stopped the job
├── UsageError             2  not readable: arguments, files, answers
│   └── ConfigError        2  fruits.toml, a FRUITS_ variable or a flag
└── JobFailed              4  the job itself ended badly
"""

from __future__ import annotations


class FruitsError(Exception):
    """What went wrong in one sentence, and in `hint` what to do next.

    more: a line for each further fault. A newline inside of a line is somebody's file name.
    """

    exit_code = 1

    def __init__(self, message: str, *more: str, hint: str = "") -> None:
        super().__init__("\n".join((message, *more)))
        self.lines = (message, *more)
        self.hint = hint


class Declined(FruitsError):
    """The user answered no; nothing was done."""


class CloudError(FruitsError):
    """AWS refused or could not be reached."""


class AccessDenied(CloudError):
    """The caller lacks a right; the message names it where AWS does."""


class Forbidden(AccessDenied):
    """A policy of the organisation denies it; no right of the account helps."""


class BucketElsewhere(CloudError):
    """The bucket lies in another region than the cluster."""


class ClusterNotFound(CloudError):
    """No live cluster answers to that name or id."""


class QuotaTooSmall(CloudError):
    """The account may not run as many vCPUs as the cluster needs."""


class Locked(CloudError):
    """Somebody else is launching, or running, the same thing."""


class RoleNotReady(CloudError):
    """A role was made a moment ago and EMR does not see it yet."""


class DeadlineReached(CloudError):
    """What was waited for did not come within its lifetime."""


class Unanswered(CloudError):
    """A request went out and no answer came back: whether AWS acted is not known."""


class TunnelError(FruitsError):
    """The tunnel could not be opened or kept."""


class HostUnreachable(TunnelError):
    """The host does not answer now; it may later."""


class HostKeyRefused(TunnelError):
    """The host shows another key than the one that is expected or pinned."""


class LoginRefused(TunnelError):
    """The host accepts none of our keys."""


class MachineError(FruitsError):
    """This machine cannot do it: no Java, no space, a process that died."""


class JobCancelled(FruitsError):
    """The job was stopped on request; what is finished stays."""


class UsageError(FruitsError):
    """The arguments, a file or a folder cannot be used as given."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration value is unknown or out of range; names source, key and rule."""


class JobFailed(FruitsError):
    """The job ran and failed, or too many pictures were rejected."""

    exit_code = 4
