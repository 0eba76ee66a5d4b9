"""Where things lie in the bucket: one prefix, and below it a folder for each kind."""

from __future__ import annotations

from dataclasses import dataclass

from fruits_cli.config import Config
from fruits_cli.errors import ConfigError
from fruits_cli.s3uri import S3Uri


def places_of(config: Config) -> Places:
    """Where things lie in the configured bucket. Raises ConfigError where none is."""
    if not config.storage.bucket:
        raise ConfigError(
            "No bucket is configured.",
            hint="Give --bucket NAME, or bucket under [storage] in fruits.toml.",
        )
    return Places(config.storage.bucket, config.storage.prefix)


@dataclass(frozen=True)
class Places:
    """Addresses below `s3://bucket/prefix/`; each one of a folder ends in `/`."""

    bucket: str
    prefix: str

    def _at(self, *parts: str) -> S3Uri:
        return S3Uri(self.bucket, "/".join(filter(None, (self.prefix.strip("/"), *parts))))

    @property
    def root_prefix(self) -> str:
        """The prefix as S3 wants it: with `/` at its end, or empty."""
        stripped = self.prefix.strip("/")
        return f"{stripped}/" if stripped else ""

    @property
    def logs(self) -> S3Uri:
        return self._at("logs", "emr/")

    @property
    def datasets(self) -> S3Uri:
        return self._at("datasets/")

    @property
    def runs(self) -> S3Uri:
        return self._at("runs/")

    def dataset(self, name: str) -> S3Uri:
        return self._at("datasets", f"{name}/")

    def pictures(self, name: str) -> S3Uri:
        return self._at("images", f"{name}/")

    def run(self, run_id: str) -> S3Uri:
        return self._at("runs", f"{run_id}/")

    def code(self, digest: str) -> S3Uri:
        return self._at("code", f"{digest}/")

    def model(self, fingerprint: str) -> S3Uri:
        return self._at("models", f"{fingerprint}/")

    def wheels(self, digest: str) -> S3Uri:
        return self._at("wheels", f"{digest}/")

    def bootstrap(self, digest: str) -> S3Uri:
        return self._at("bootstrap", f"{digest}/")

    @property
    def locks(self) -> S3Uri:
        return self._at("locks/")

    def lock(self, name: str) -> S3Uri:
        return self._at("locks", name)


def places_of_logs(logs: S3Uri) -> Places:
    """The layout that a cluster's log address belongs to."""
    return Places(logs.bucket, logs.key.removesuffix("logs/emr/").rstrip("/"))
