"""The store that is a bucket of Amazon S3, or of another object store with its API and its conditional writes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from vertical_sdk.errors import MissingExtra, OfflineError, RegistryError, SourceError
from vertical_sdk.registry.stores.bucket import Bucket, read_size_and_age
from vertical_sdk.registry.stores.objects import ObjectStore

__all__ = ["S3Store"]

CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


class S3Store(ObjectStore):
    """A registry at s3://BUCKET/PREFIX. Credentials and endpoint come from the AWS_* variables and files that all AWS tools read."""

    def __init__(self, location: str) -> None:
        root = location.strip("/")
        if not root:
            raise RegistryError("s3://: the bucket is missing. Write s3://BUCKET or s3://BUCKET/PREFIX.")
        super().__init__(lambda: _S3Bucket(_open_client(), root, f"s3://{root}"))


def _open_client() -> Any:
    """Open a separate client, independent of listings and settings of other clients in this process."""
    try:
        from s3fs import S3FileSystem
    except ImportError:
        raise MissingExtra("s3", "a registry at s3://") from None
    return S3FileSystem(anon=False, use_listings_cache=False, skip_instance_cache=True)


class _S3Bucket(Bucket):
    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes | None:
        """Read in one request; s3fs would first request the size."""
        try:
            with self.translate_errors():
                content: bytes = self.files.cat_file(f"{self.root}/{key}", start=start, end=end, max_concurrency=1)
        except FileNotFoundError:
            return None
        return content

    def find_size_and_age(self, key: str) -> tuple[int, float] | None:
        """Find both in one request; s3fs would also list the bucket to see whether the key is a folder."""
        bucket, key, _ = self.files.split_path(f"{self.root}/{key}")
        try:
            with self.translate_errors():
                head = self.files.call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return None
        return read_size_and_age({**head, "size": head["ContentLength"]})

    def list_children(self, key: str) -> list[str]:
        """List with one request per thousand names; s3fs would also list the parent folder if there are no names."""
        bucket, folder, _ = self.files.split_path(f"{self.root}/{key}/")
        query, paths = {"Bucket": bucket, "Prefix": folder, "Delimiter": "/"}, []
        with self.translate_errors():
            while True:
                page = self.files.call_s3("list_objects_v2", **query)
                paths += [item["Key"] for item in page.get("Contents", ())]
                paths += [item["Prefix"].rstrip("/") for item in page.get("CommonPrefixes", ())]
                if not page.get("IsTruncated"):
                    return sorted(path.rpartition("/")[2] for path in paths)
                query["ContinuationToken"] = page["NextContinuationToken"]

    def create(self, key: str, content: bytes) -> bool:
        """Write a key that does not exist yet (If-None-Match: *)."""
        try:
            return super().create(key, content)
        except SourceError as error:
            if _error_code(error.__cause__) in {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}:
                return False
            raise

    @contextlib.contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Turn AWS's errors into ours, which name the settings to change."""
        from botocore import exceptions as aws

        bucket = f"s3://{self.root.partition('/')[0]}"
        try:
            with super().translate_errors():
                yield
        except FileNotFoundError as error:
            if _error_code(error.__cause__) == "NoSuchBucket":
                raise RegistryError(
                    f"{self.where}: there is no bucket {bucket} at {self._endpoint_url()}. "
                    "Create it, or set AWS_ENDPOINT_URL to the server that has it."
                ) from error
            raise
        except RegistryError as error:
            if isinstance(error.__cause__, PermissionError):
                raise RegistryError(
                    f"{self.where}: {self._endpoint_url()} refused access ({error.__cause__}). Set {CREDENTIALS} "
                    "for a user with s3:ListBucket and s3:GetObject there, s3:PutObject to write, and s3:DeleteObject for gc."
                ) from error.__cause__
            raise
        except (
            aws.NoCredentialsError,
            aws.PartialCredentialsError,
            aws.ProfileNotFound,
            aws.CredentialRetrievalError,
        ) as error:
            raise RegistryError(f"{self.where}: no credentials ({error}). Set {CREDENTIALS}.") from error
        except (aws.ConnectionError, aws.HTTPClientError) as error:
            raise OfflineError(
                f"{self.where}: {self._endpoint_url()} cannot be reached ({error}). "
                "Set AWS_ENDPOINT_URL to the server of the bucket, or try again."
            ) from error
        except (aws.BotoCoreError, ValueError) as error:
            raise RegistryError(f"{self.where}: {error}. Write s3://BUCKET/PREFIX, and check the AWS_* variables.") from error

    def _endpoint_url(self) -> str:
        client = getattr(self.files, "_s3", None)
        return str(client.meta.endpoint_url) if client is not None else "the object store"


def _error_code(error: BaseException | None) -> str:
    """Find S3's error code in the causes of a Python error; "" if there is none."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""
