"""The store that is a bucket of Amazon S3, or of another object store that speaks its language and has its conditional writes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from vertical_sdk.errors import MissingExtra, OfflineError, RegistryError, SourceError
from vertical_sdk.registry.stores.bucket import Bucket, size_and_age
from vertical_sdk.registry.stores.objects import ObjectStore

__all__ = ["S3Store"]

REFUSED = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


class S3Store(ObjectStore):
    """A registry at s3://BUCKET/PREFIX. Who asks, and where, is said by the AWS_* variables and files that all of AWS's tools read."""

    def __init__(self, location: str) -> None:
        root = location.strip("/")
        if not root:
            raise RegistryError("s3://: a bucket is missing. Write s3://BUCKET or s3://BUCKET/PREFIX.")
        super().__init__(lambda: _S3Bucket(_connect(), root, f"s3://{root}"))


def _connect() -> Any:
    """A client of its own: what others in this process have listed or configured is none of ours."""
    try:
        from s3fs import S3FileSystem
    except ImportError:
        raise MissingExtra("s3", "a registry at s3://") from None
    return S3FileSystem(anon=False, use_listings_cache=False, skip_instance_cache=True)


class _S3Bucket(Bucket):
    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes | None:
        """In one request, where s3fs would ask for the size first."""
        try:
            with self.telling():
                content: bytes = self.files.cat_file(f"{self.root}/{key}", start=start, end=end, max_concurrency=1)
        except FileNotFoundError:
            return None
        return content

    def look(self, key: str) -> tuple[int, float] | None:
        """In one request, where s3fs would list the bucket to see whether it is a folder."""
        bucket, key, _ = self.files.split_path(f"{self.root}/{key}")
        try:
            with self.telling():
                head = self.files.call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return None
        return size_and_age({**head, "size": head["ContentLength"]})

    def children(self, key: str) -> list[str]:
        """In one request a thousand, where s3fs would list the folder above too if there are none."""
        bucket, folder, _ = self.files.split_path(f"{self.root}/{key}/")
        asked, found = {"Bucket": bucket, "Prefix": folder, "Delimiter": "/"}, []
        with self.telling():
            while True:
                page = self.files.call_s3("list_objects_v2", **asked)
                found += [below["Key"] for below in page.get("Contents", ())]
                found += [below["Prefix"].rstrip("/") for below in page.get("CommonPrefixes", ())]
                if not page.get("IsTruncated"):
                    return sorted(path.rpartition("/")[2] for path in found)
                asked["ContinuationToken"] = page["NextContinuationToken"]

    def create(self, key: str, content: bytes) -> bool:
        """Write a key that nobody has written yet (If-None-Match: *)."""
        try:
            return super().create(key, content)
        except SourceError as error:
            if _code(error.__cause__) in {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}:
                return False
            raise

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Turn AWS's errors into ours, which say what to set."""
        from botocore import exceptions as aws

        bucket = f"s3://{self.root.partition('/')[0]}"
        try:
            with super().telling():
                yield
        except FileNotFoundError as error:
            if _code(error.__cause__) == "NoSuchBucket":
                raise RegistryError(
                    f"{self.where}: there is no bucket {bucket} at {self._endpoint()}. Make it, or set AWS_ENDPOINT_URL to where it is."
                ) from error
            raise
        except RegistryError as error:
            if isinstance(error.__cause__, PermissionError):
                raise RegistryError(
                    f"{self.where}: {self._endpoint()} refused ({error.__cause__}). Set {REFUSED}, "
                    "to somebody who has s3:ListBucket and s3:GetObject there, to write s3:PutObject, and for gc s3:DeleteObject."
                ) from error.__cause__
            raise
        except (
            aws.NoCredentialsError,
            aws.PartialCredentialsError,
            aws.ProfileNotFound,
            aws.CredentialRetrievalError,
        ) as error:
            raise RegistryError(f"{self.where}: no credentials ({error}). Set {REFUSED}.") from error
        except (aws.ConnectionError, aws.HTTPClientError) as error:
            raise OfflineError(
                f"{self.where}: {self._endpoint()} cannot be reached ({error}). Set AWS_ENDPOINT_URL to where the bucket is, or try again."
            ) from error
        except (aws.BotoCoreError, ValueError) as error:
            raise RegistryError(f"{self.where}: {error}. Write s3://BUCKET/PREFIX, and look at the AWS_* variables.") from error

    def _endpoint(self) -> str:
        client = getattr(self.files, "_s3", None)
        return str(client.meta.endpoint_url) if client is not None else "the object store"


def _code(error: BaseException | None) -> str:
    """S3's own word for what went wrong, somewhere behind an error of Python's."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""
